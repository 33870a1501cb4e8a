"""Every detection and every annotated object of an evaluation, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.object_masks import Chosen, ObjectMasks


@dataclass(frozen=True)
class Detections:
    """Every detection of an evaluation, N rows in ascending order of image.

    Attributes:
        image: (N,) position of the image among the ascending ids.
        labels: (N,) 0..K-1.
        scores: (N,).
        boxes: (N, 4) xyxy in the original frame.
        masks: N, whose overlaps count instead of those of the boxes; None for the boxes.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    masks: ObjectMasks | None = None

    def of(self, chosen: Chosen) -> Detections:
        """Those of a mask (N,) or of rows."""
        return Detections(
            self.image[chosen],
            self.labels[chosen],
            self.scores[chosen],
            self.boxes[chosen],
            None if self.masks is None else self.masks.of(chosen),
        )


@dataclass(frozen=True)
class Annotated:
    """Every annotated box of an evaluation, M rows in ascending order of image.

    Attributes:
        image: (M,) position of the image among the ascending ids.
        labels: (M,) 0..K-1.
        area: (M,) square pixels, the annotation's own (of the mask where there is one).
        boxes: (M, 4) xyxy in the original frame.
        crowd: (M,) bool.
        difficult: (M,) bool.
        masks: M, where those of the detections count.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    area: NDArray[np.float64]
    boxes: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    masks: ObjectMasks | None = None

    def of(self, chosen: Chosen) -> Annotated:
        """Those of a mask (M,) or of rows."""
        return Annotated(
            self.image[chosen],
            self.labels[chosen],
            self.area[chosen],
            self.boxes[chosen],
            self.crowd[chosen],
            self.difficult[chosen],
            None if self.masks is None else self.masks.of(chosen),
        )
