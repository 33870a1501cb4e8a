"""Pascal VOC average precision of boxes, in both of its definitions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.box_metric import BoxMetric
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.resampled_ap import (
    Ranked,
    area_under,
    average_precision,
    recall_points,
)
from densekit.metrics.means import column_means, mean
from densekit.metrics.protocols import Draws

Curve = NDArray[np.float64]


class VocMap(BoxMetric):
    """AP by the devkit's rules, mean over classes and per class.

    For an IoU threshold of 0.5 the keys are VOC07_AP50 (mean precision at 11 recalls, VOC 2007)
    and VOC10_AP50 (area under the curve, every point of it, since VOC 2010), then
    `VOC07_AP50/NAME` and `VOC10_AP50/NAME`. A class without ground truth is NaN and left out of
    the mean; without any class the mean is NaN.

    A detection belongs to the box of its class that it overlaps most; from the threshold on it is
    right once, and wrong when the box is already taken. A difficult box (a crowd region too) is
    not there to be found, and detections that belong to it count neither way. Boxes are
    continuous: VOC's inclusive pixel corners (x1, x2) are (x1 - 1, x2) here, which gives the
    devkit's IoU.

    Args:
        names: Class names, one a label 0..K-1.
        iou_thresholds: At least one, in (0, 1].
        min_precision: See `BoxMetric`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    max_detections = sys.maxsize

    def __init__(
        self,
        names: Sequence[str],
        *,
        iou_thresholds: Sequence[float] = (0.5,),
        min_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(names, min_precision, **kwargs)
        if not iou_thresholds or not all(0 < t <= 1 for t in iou_thresholds):
            raise ValueError(
                f"iou_thresholds: expected one or more numbers in (0, 1], got {iou_thresholds!r}"
            )
        self.iou_thresholds = tuple(iou_thresholds)

    def aggregate(
        self, num_images: int, detections: Detections, truth: Annotated
    ) -> dict[str, float]:
        """The numbers named above; see `BoxMetric.aggregate`."""
        aps = np.array(
            [self._class_aps(detections, truth, label) for label in range(len(self.names))]
        ).reshape(len(self.names), 2, len(self.iou_thresholds))
        metrics = {}
        for d, definition in enumerate(("VOC07", "VOC10")):
            for t, threshold in enumerate(self.iou_thresholds):
                key = f"{definition}_AP{100 * threshold:.6g}"
                metrics[key] = mean(aps[:, d, t])
                metrics |= {
                    f"{key}/{name}": float(aps[k, d, t]) for k, name in enumerate(self.names)
                }
        return metrics

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """All numbers of every draw of images; see `HasResamples`."""
        detections, truth = self.computed()
        classes = [self._ranked(detections, truth, label) for label in range(len(self.names))]
        metrics = {}
        for definition, protocol in (("VOC07", recall_points(11)), ("VOC10", area_under)):
            aps = np.stack([average_precision(ranked, draws, protocol) for ranked in classes])
            for t, threshold in enumerate(self.iou_thresholds):
                key = f"{definition}_AP{100 * threshold:.6g}"
                metrics[key] = column_means(aps[:, t])
                metrics |= {f"{key}/{name}": aps[k, t] for k, name in enumerate(self.names)}
        return metrics

    def ignored(self, truth: Annotated) -> NDArray[np.bool_]:
        """Crowd regions and difficult boxes."""
        ignored: NDArray[np.bool_] = truth.crowd | truth.difficult
        return ignored

    def _ranked(self, detections: Detections, truth: Annotated, label: int) -> Ranked:
        ours, theirs = detections.labels == label, truth.labels == label
        ignored = self.ignored(truth)[theirs]
        found = detections.of(ours)
        found = found.of(np.argsort(-found.scores, kind="stable"))
        image = found.image
        overlap, target = best_overlaps(found, truth.of(theirs))
        reached = [overlap >= threshold for threshold in self.iou_thresholds]
        outcomes = [outcome(hits, target, ignored) for hits in reached]
        right, counts = (np.stack(parts) for parts in zip(*outcomes, strict=True))
        return Ranked(image, right, counts, truth.image[theirs][~ignored])

    def _class_aps(self, detections: Detections, truth: Annotated, label: int) -> list[list[float]]:
        """AP of one class: [definition][threshold]."""
        ours, theirs = detections.labels == label, truth.labels == label
        ignored = self.ignored(truth)[theirs]
        num_positives = int((~ignored).sum())
        found = detections.of(ours)
        found = found.of(np.argsort(-found.scores, kind="stable"))
        overlap, target = best_overlaps(found, truth.of(theirs))
        curves = [
            precision_recall(overlap >= threshold, target, ignored, num_positives)
            for threshold in self.iou_thresholds
        ]
        return [
            [_ap(curve, num_positives, area) for curve in curves]
            for area in (eleven_point_area, every_point_area)
        ]


def best_overlaps(
    detections: Detections, truth: Annotated
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The annotated object that each detection overlaps most, in its own image.

    Args:
        detections: N, in any order.
        truth: M, in ascending order of image.

    Returns:
        (N,) IoU, 0 in an image without objects, and (N,) row of the object, the first among equals.
    """
    image = detections.image
    overlap, target = np.zeros(len(image)), np.zeros(len(image), dtype=np.int64)
    if not len(image):
        return overlap, target
    rows = np.argsort(image, kind="stable")
    found, start = np.unique(image[rows], return_index=True)
    first, last = (np.searchsorted(truth.image, found, side) for side in ("left", "right"))
    for mine, low, high in zip(np.split(rows, start[1:]), first, last, strict=True):
        if low < high:
            iou = _iou(detections.of(mine), truth.of(np.arange(low, high)))
            overlap[mine], target[mine] = iou.max(axis=1), low + iou.argmax(axis=1)
    return overlap, target


def _iou(detections: Detections, truth: Annotated) -> NDArray[np.float64]:
    """(N, M) of one image, by the masks where there are some; VOC has no crowd regions."""
    if detections.masks is None or truth.masks is None:
        return box_iou(detections.boxes, truth.boxes)
    return detections.masks.iou(truth.masks, np.zeros(len(truth.labels), dtype=np.bool_))


def box_iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU (N, M) of xyxy boxes (N, 4) and (M, 4), 0 where both are empty."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(
        boxes[:, None, :2], others[:, :2]
    )
    intersection = sides.clip(min=0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).clip(min=0).prod(axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1] - intersection
    iou: NDArray[np.float64] = intersection / np.maximum(union, np.finfo(np.float64).tiny)
    return iou


def precision_recall(
    hits: NDArray[np.bool_],
    target: NDArray[np.int64],
    ignored: NDArray[np.bool_],
    num_positives: int,
) -> tuple[Curve, Curve]:
    """The curve of one class.

    Args:
        hits: (N,) whether a detection reaches its box, in descending order of score.
        target: (N,) row of that box.
        ignored: (M,) the boxes that are not to be found.
        num_positives: The number of the others.

    Returns:
        (N',) precision and recall after each detection that counts.
    """
    first, counts = outcome(hits, target, ignored)
    right = np.cumsum(first[counts])
    return right / np.arange(1, len(right) + 1), right / max(num_positives, 1)


def outcome(
    hits: NDArray[np.bool_], target: NDArray[np.int64], ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) whether a detection is right, and whether it counts; see `precision_recall`."""
    counts = np.ones(len(hits), dtype=bool)
    counts[hits] = ~ignored[target[hits]]
    right = np.zeros(len(hits), dtype=bool)
    reached = np.flatnonzero(hits)
    right[reached[np.unique(target[reached], return_index=True)[1]]] = True
    return right & counts, counts


def eleven_point_area(precision: Curve, recall: Curve) -> float:
    """Mean over the recalls 0, 0.1 .. 1 of the best precision at that recall or beyond.

    The recalls are multiples of 0.1 as floating point has them (0.30000000000000004), as in the
    evaluators in use: a recall of exactly 3/10 does not reach the third.
    """
    best = [precision[recall >= point].max(initial=0.0) for point in np.linspace(0, 1, 11)]
    return float(np.mean(best))


def every_point_area(precision: Curve, recall: Curve) -> float:
    """Area under the curve after precision is made non-increasing from the right."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _ap(
    curve: tuple[Curve, Curve], num_positives: int, area: Callable[[Curve, Curve], float]
) -> float:
    return area(*curve) if num_positives else float("nan")
