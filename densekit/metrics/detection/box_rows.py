"""Every detection and every annotated box of an evaluation, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Every detection of an evaluation, N rows in ascending order of image.

    Attributes:
        image: (N,) position of the image among the ascending ids.
        labels: (N,) 0..K-1.
        scores: (N,).
        boxes: (N, 4) xyxy in the original frame.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Those of a mask (N,) or of rows."""
        return Detections(
            self.image[chosen], self.labels[chosen], self.scores[chosen], self.boxes[chosen]
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
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    area: NDArray[np.float64]
    boxes: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
