"""COCO's protocol over columns of objects: the twelve numbers and every class's AP.

The matching runs in hotcoco, whose tables equal pycocotools' bit for bit; which cells of them
become which number stands here, once, for the metric of a training run and for result files.

Shape letters: N objects, T IoU thresholds (10), R recall points (101), K classes, A area ranges
(4: all, small, medium, large), M limits on detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from densekit.metrics.detection.box_rows import Annotated, Detections

AREAS = ("", "_small", "_medium", "_large")
"""Suffixes of the area ranges in the order of axis A: any, < 32^2, 32^2 to 96^2, > 96^2 pixels."""

AREA_EDGES = (32.0**2, 96.0**2)
"""Square pixels between small, medium and large objects."""


@dataclass(frozen=True)
class Shapes:
    """The boxes, or the masks, of N objects.

    Attributes:
        image: (N,) position of each one's image among the images, from 0.
        labels: (N,) 0..K-1.
        boxes: (N, 4) xywh; not looked at where there are masks.
        area: (N,) square pixels, what the area ranges look at.
        masks: Compressed RLE of each; None measures the boxes.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]
    masks: list[Any] | None = None


def shapes_of(rows: Detections | Annotated, area: NDArray[np.float64] | None = None) -> Shapes:
    """Boxes of an evaluation, or its masks where there are some.

    Args:
        rows: N detected or annotated ones.
        area: (N,) square pixels; None for that of the shapes.
    """
    corner, sides = rows.boxes[:, :2], rows.boxes[:, 2:] - rows.boxes[:, :2]
    boxes = np.concatenate((corner, sides), axis=1)
    if rows.masks is None:
        return Shapes(rows.image, rows.labels, boxes, sides.prod(axis=1) if area is None else area)
    area, masks = rows.masks.areas() if area is None else area, list(rows.masks.runs)
    return Shapes(rows.image, rows.labels, boxes, area, masks)


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
    num_images: int,
    num_classes: int,
    truth: Shapes,
    crowd: NDArray[np.bool_],
    detections: Shapes,
    scores: NDArray[np.float64],
    *,
    max_detections: int = 100,
) -> CocoTables:
    """Matches detections to ground truth by COCO's protocol.

    Args:
        num_images: Images looked at, with or without objects.
        num_classes: K.
        truth: The annotated objects; their order decides between equal IoUs.
        crowd: (N,) of the annotated objects.
        detections: The detected objects, with masks where `truth` has them; their order decides
            between equal scores.
        scores: (N,) of the detected objects.
        max_detections: Maximum number of detections per class and image.
    """
    images = [{"id": image} for image in range(num_images)]
    categories = [{"id": label, "name": str(label)} for label in range(num_classes)]
    annotated, found = data_sets(images, categories, truth, crowd, detections, scores)
    evaluator = COCOeval(annotated, found, "bbox" if truth.masks is None else "segm")
    return tables_of(evaluator, detection_limits(max_detections))


def data_sets(
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    truth: Shapes,
    crowd: NDArray[np.bool_],
    detections: Shapes,
    scores: NDArray[np.float64],
) -> tuple[COCO, COCO]:
    """The annotated and the detected objects, as hotcoco takes them; see `measure`."""
    annotated = COCO.from_arrays(
        images,
        categories,
        truth.image,
        truth.labels,
        truth.boxes,
        area=truth.area,
        iscrowd=crowd,
        segmentation=truth.masks,
    )
    rows = np.column_stack((detections.image, detections.boxes, scores, detections.labels))
    found = annotated.load_res(rows, segmentation=detections.masks)
    found.update_anns(ids=np.arange(1, len(rows) + 1), area=detections.area)  # else the boxes'
    return annotated, found


def tables_of(evaluator: COCOeval, limits: tuple[int, ...]) -> CocoTables:
    """Runs an evaluator with these limits on the number of detections."""
    evaluator.params.max_dets = list(limits)
    evaluator.evaluate()
    evaluator.accumulate()
    tables = evaluator.eval
    assert tables is not None
    return CocoTables(tables["precision"], tables["recall"], limits)


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
        "AP": measured_mean(precision[:, :, :, 0]),
        "AP50": measured_mean(precision[0, :, :, 0]),
        "AP75": measured_mean(precision[5, :, :, 0]),
    }
    metrics |= {f"AP{AREAS[a]}": measured_mean(precision[:, :, :, a]) for a in (1, 2, 3)}
    for m, limit in enumerate(tables.limits):
        metrics[f"AR{limit}"] = measured_mean(tables.recall[:, :, 0, m])
    metrics |= {f"AR{AREAS[a]}": measured_mean(tables.recall[:, :, a, -1]) for a in (1, 2, 3)}
    metrics |= {f"AP/{name}": measured_mean(precision[:, :, k, 0]) for k, name in enumerate(names)}
    return metrics


def nothing_measured(names: Sequence[str], max_detections: int) -> dict[str, float]:
    """The keys of `summarize`, every value NaN."""
    limits = detection_limits(max_detections)
    shape = (10, 101, len(names), len(AREAS), len(limits))
    empty = CocoTables(np.full(shape, -1.0), np.full((10, *shape[2:]), -1.0), limits)
    return summarize(empty, names)


def measured_mean(cells: NDArray[np.float64]) -> float:
    """The mean of the cells with ground truth; NaN without any."""
    measured = cells[cells > -1]
    return float(measured.mean()) if measured.size else float("nan")
