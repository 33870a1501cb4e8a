"""COCO average precision and recall of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.box_metric import BoxMetric
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.coco_matching import match, ranked
from densekit.metrics.detection.coco_protocol import (
    detection_limits,
    measure,
    nothing_measured,
    shapes_of,
    summarize,
)
from densekit.metrics.detection.resampled_ap import average_precision, recall_points
from densekit.metrics.means import column_means
from densekit.metrics.protocols import Draws

POINTS = recall_points(101)


class CocoMap(BoxMetric):
    """COCO's twelve numbers and every class's AP, equal to pycocotools.

    The keys are AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, AR_small,
    AR_medium, AR_large (0..1) and `AP/NAME`. A number without ground truth to find (a class that
    does not occur, no small object, no image at all) is NaN and left out of means. Crowd boxes
    are never missed and take in any number of detections; the area ranges look at the
    annotation's own area.

    Args:
        names: Class names, one a label 0..K-1.
        max_detections: Maximum number of detections per class and image; AR100 is named after it.
        min_precision: See `BoxMetric`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        max_detections: int = 100,
        min_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, min_precision, **kwargs)
        detection_limits(max_detections)  # refuses a limit below 1 before anything is measured
        self.max_detections = max_detections

    def aggregate(
        self, num_images: int, detections: Detections, truth: Annotated
    ) -> dict[str, float]:
        """The numbers named above; see `BoxMetric.aggregate`."""
        if truth.labels.size == 0:
            return nothing_measured(self.names, self.max_detections)
        tables = measure(
            num_images,
            len(self.names),
            shapes_of(truth, truth.area),
            truth.crowd,
            shapes_of(detections),
            detections.scores,
            max_detections=self.max_detections,
        )
        return summarize(tables, self.names)

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """AP, AP50, AP75 and `AP/NAME` of every draw of images; see `HasResamples`."""
        detections, truth = self.computed()
        matches = match(detections, truth, max_detections=self.max_detections)
        aps = np.stack(
            [
                average_precision(ranked(matches, detections, truth, label), draws, POINTS)
                for label in range(len(self.names))
            ]
        )  # (K, T, R)
        averaged = {"AP": aps.reshape(-1, len(draws)), "AP50": aps[:, 0], "AP75": aps[:, 5]}
        of_classes = {f"AP/{name}": aps[k] for k, name in enumerate(self.names)}
        return {name: column_means(values) for name, values in (averaged | of_classes).items()}
