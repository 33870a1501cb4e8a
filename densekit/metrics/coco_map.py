"""COCO average precision and recall of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.box_metric import Annotated, BoxMetric, Detections
from densekit.metrics.coco_protocol import (
    Annotation,
    detection_limits,
    measure,
    nothing_measured,
    summarize,
)


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
            [{"id": image} for image in range(num_images)],
            range(len(self.names)),
            _annotations(truth.image, truth.labels, truth.boxes, truth.area, truth.crowd),
            _with_scores(detections),
            max_detections=self.max_detections,
        )
        return summarize(tables, self.names)


def _annotations(
    image: NDArray[np.int64],
    labels: NDArray[np.int64],
    boxes: NDArray[np.float64],
    area: NDArray[np.float64],
    crowd: NDArray[np.bool_],
) -> list[Annotation]:
    """COCO annotations of N rows, ids from 1."""
    xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    columns = (image.tolist(), labels.tolist(), xywh.tolist(), area.tolist(), crowd.tolist())
    return [
        {
            "id": index,
            "image_id": image_id,
            "category_id": label,
            "bbox": box,
            "area": size,
            "iscrowd": int(is_crowd),
        }
        for index, (image_id, label, box, size, is_crowd) in enumerate(
            zip(*columns, strict=True), start=1
        )
    ]


def _with_scores(detections: Detections) -> list[Annotation]:
    boxes = detections.boxes
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rows = _annotations(
        detections.image, detections.labels, boxes, area, np.zeros(len(boxes), dtype=bool)
    )
    for row, score in zip(rows, detections.scores.tolist(), strict=True):
        row["score"] = score
    return rows
