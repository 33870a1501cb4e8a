"""COCO average precision and recall of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.box_metric import Annotated, BoxMetric, Detections
from densekit.metrics.coco_matching import IOU_THRESHOLDS, match, ranked
from densekit.metrics.coco_protocol import (
    Shapes,
    detection_limits,
    measure,
    nothing_measured,
    summarize,
)
from densekit.metrics.means import column_means, ratio
from densekit.metrics.protocols import Draws
from densekit.metrics.resampled_ap import average_precision, recall_points

POINTS = recall_points(101)
CONFIDENT = 0.5
"""Score from which `cases` counts a detection."""


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
        **kwargs: Of `torchmetrics.Metric`.
    """

    def __init__(self, names: Sequence[str], *, max_detections: int = 100, **kwargs: Any) -> None:
        super().__init__(names, **kwargs)
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
            _shapes(truth, truth.area),
            truth.crowd,
            _shapes(detections),
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

    def cases(self) -> list[dict[str, float]]:
        """A row per image, by ascending `image_id`, as last computed.

        `F1`, `found`, `missed` and `false` of the detections of at least `CONFIDENT`, at an IoU of
        0.5; crowd regions and what lies in them do not count. F1 is NaN with nothing to find and
        nothing found.
        """
        detections, truth = self.computed()
        confident = detections.of(detections.scores >= CONFIDENT)
        matches = match(
            confident, truth, max_detections=self.max_detections, thresholds=IOU_THRESHOLDS[:1]
        )
        image, count = confident.image[matches.detection], len(self.image_ids())
        right = matches.target[0] >= 0
        objects = np.bincount(truth.image[~truth.crowd], minlength=count)
        found = np.bincount(image[right & ~matches.crowd[0]], minlength=count)
        false = np.bincount(image[~right], minlength=count)
        f1 = ratio(2 * found, objects + found + false)
        columns = zip(self.image_ids(), f1, found, objects - found, false, strict=True)
        names = ("F1", "found", "missed", "false")
        return [
            {"image_id": int(image_id), **dict(zip(names, map(float, row), strict=True))}
            for image_id, *row in columns
        ]


def _shapes(rows: Detections | Annotated, area: NDArray[np.float64] | None = None) -> Shapes:
    corner, sides = rows.boxes[:, :2], rows.boxes[:, 2:] - rows.boxes[:, :2]
    boxes = np.concatenate((corner, sides), axis=1)
    return Shapes(rows.image, rows.labels, boxes, sides.prod(axis=1) if area is None else area)
