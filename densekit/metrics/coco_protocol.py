"""COCO's protocol over lists of annotations: the twelve numbers and every class's AP.

The matching runs in faster-coco-eval's C++; which cells of its tables become which number stands
here, once, for the metric of a training run and for result files.

Shape letters: T IoU thresholds (10), R recall points (101), K classes, A area ranges (4: all,
small, medium, large), M limits on detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

AREAS = ("", "_small", "_medium", "_large")
"""Suffixes of the area ranges in the order of axis A: any, < 32^2, 32^2 to 96^2, > 96^2 pixels."""

Annotation = dict[str, Any]


@dataclass(frozen=True)
class CocoTables:
    """What the protocol measures before averaging; -1 marks cells without ground truth.

    Attributes:
        precision: (T, R, K, A, M).
        recall: (T, K, A, M).
        limits: The M largest numbers of detections an image and class may have, ascending.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    limits: tuple[int, ...]


def detection_limits(max_detections: int) -> tuple[int, ...]:
    """The limits of AR1, AR10 and AR<max>, ascending and without repeats."""
    if max_detections < 1:
        raise ValueError(f"max_detections: expected at least 1, got {max_detections}")
    return (*(limit for limit in (1, 10) if limit < max_detections), max_detections)


def measure(
    images: list[Annotation],
    category_ids: Sequence[int],
    truth: list[Annotation],
    detections: list[Annotation],
    *,
    iou_type: str = "bbox",
    max_detections: int = 100,
) -> CocoTables:
    """Matches detections to ground truth by COCO's protocol.

    Args:
        images: COCO images looked at, with or without annotations: `id`; `segm` needs `height` and
            `width` too.
        category_ids: Ascending; axis K follows this order.
        truth: COCO annotations, each with an `id` of 1 or more (0 means "unmatched" inside),
            `image_id`, `category_id`, `area`, `iscrowd`, and `bbox` (xywh) or `segmentation`.
            Order decides between equal IoUs.
        detections: Likewise, with `score`; order decides between equal scores.
        iou_type: `bbox` or `segm`.
        max_detections: Maximum number of detections per class and image.
    """
    limits = detection_limits(max_detections)
    evaluator = COCOeval_faster(
        _indexed(images, category_ids, truth),
        _indexed(images, category_ids, detections),
        iou_type,
        print_function=_silent,
    )
    evaluator.params.maxDets = list(limits)
    evaluator.evaluate()
    evaluator.accumulate()
    return CocoTables(
        precision=np.asarray(evaluator.eval["precision"], dtype=np.float64),
        recall=np.asarray(evaluator.eval["recall"], dtype=np.float64),
        limits=limits,
    )


def summarize(tables: CocoTables, names: Sequence[str]) -> dict[str, float]:
    """Averages the tables into COCO's numbers.

    Args:
        tables: What `measure` returned.
        names: One a class, in the order of axis K.

    Returns:
        AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100 (AR<max>), AR_small,
        AR_medium, AR_large in 0..1, then `AP/NAME` for every class; NaN where there is no ground
        truth to find.
    """
    precision = tables.precision[..., -1]  # (T, R, K, A), at the largest limit
    metrics = {
        "AP": _mean(precision[:, :, :, 0]),
        "AP50": _mean(precision[0, :, :, 0]),
        "AP75": _mean(precision[5, :, :, 0]),
    }
    metrics |= {f"AP{AREAS[a]}": _mean(precision[:, :, :, a]) for a in (1, 2, 3)}
    for m, limit in enumerate(tables.limits):
        metrics[f"AR{limit}"] = _mean(tables.recall[:, :, 0, m])
    metrics |= {f"AR{AREAS[a]}": _mean(tables.recall[:, :, a, -1]) for a in (1, 2, 3)}
    metrics |= {f"AP/{name}": _mean(precision[:, :, k, 0]) for k, name in enumerate(names)}
    return metrics


def nothing_measured(names: Sequence[str], max_detections: int) -> dict[str, float]:
    """The keys of `summarize`, every value NaN."""
    limits = detection_limits(max_detections)
    shape = (10, 101, len(names), len(AREAS), len(limits))
    empty = CocoTables(np.full(shape, -1.0), np.full((10, *shape[2:]), -1.0), limits)
    return summarize(empty, names)


def _mean(cells: NDArray[np.float64]) -> float:
    measured = cells[cells > -1]
    return float(measured.mean()) if measured.size else float("nan")


def _indexed(
    images: list[Annotation], category_ids: Sequence[int], annotations: list[Annotation]
) -> Any:
    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": [{"id": category_id} for category_id in category_ids],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _silent(*_: object) -> None:
    """Replaces the printing of the evaluator."""
