"""Which detections and annotated objects of an image overlap, and how far.

That is asked of their boxes, or of their masks where they have some.

Shape letters: D detections, M annotated boxes, P pairs that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.box_rows import Annotated, Detections

BLOCK = 1 << 20
"""Pairs that are looked at together."""


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an annotated box of the same image that share area.

    Attributes:
        detection: (P,) row of the detection, ascending.
        box: (P,) row of the annotated box, ascending within a detection.
        iou: (P,); of a crowd region, the share of the detection that lies in it.
    """

    detection: NDArray[np.int64]
    box: NDArray[np.int64]
    iou: NDArray[np.float64]

    def of(self, chosen: NDArray[np.bool_]) -> Overlaps:
        """Those of a mask (P,)."""
        return Overlaps(self.detection[chosen], self.box[chosen], self.iou[chosen])


def overlaps(detections: Detections, truth: Annotated) -> Overlaps:
    """All pairs of the same image, of any classes.

    Args:
        detections: In any order.
        truth: In ascending order of image.
    """
    if detections.masks is not None and truth.masks is not None:
        return _mask_overlaps(detections, truth)
    first = np.searchsorted(truth.image, detections.image, side="left")
    number = np.searchsorted(truth.image, detections.image, side="right") - first
    ends = np.cumsum(number)
    blocks = np.searchsorted(ends, np.arange(BLOCK, ends[-1] if len(ends) else 0, BLOCK))
    parts = [
        _overlaps(detections, truth, rows, first[rows], number[rows])
        for rows in np.split(np.arange(len(number)), np.unique(blocks))
    ]
    columns = ((part.detection, part.box, part.iou) for part in parts)
    return Overlaps(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _mask_overlaps(detections: Detections, truth: Annotated) -> Overlaps:
    """Of masks: image by image."""
    order = np.argsort(detections.image, kind="stable")
    images, counts = np.unique(detections.image, return_counts=True)
    parts, ends = [np.zeros((3, 0))], np.cumsum(counts)
    for image, end, count in zip(images, ends, counts, strict=True):
        rows = order[end - count : end]
        first, last = np.searchsorted(truth.image, (image, image + 1))
        objects = np.arange(first, last)
        annotated, found = truth.of(objects), detections.of(rows)
        assert annotated.masks is not None
        assert found.masks is not None
        iou = found.masks.iou(annotated.masks, annotated.crowd)
        detection, box = np.nonzero(iou)
        parts.append(np.stack((rows[detection], objects[box], iou[detection, box])))
    columns = np.concatenate(parts, axis=1)
    detection, box, iou = columns[:, np.argsort(columns[0], kind="stable")]
    return Overlaps(detection.astype(np.int64), box.astype(np.int64), iou)


def _overlaps(
    detections: Detections,
    truth: Annotated,
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    number: NDArray[np.int64],
) -> Overlaps:
    """Of some detections, each with the `number` annotated boxes from `first` on."""
    detection = np.repeat(rows, number)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(number) - number, number)
    box = np.repeat(first, number) + within
    iou = pair_iou(detections.boxes[detection], truth.boxes[box], truth.crowd[box])
    pairs = Overlaps(detection, box, iou)
    return pairs.of(iou > 0)


def pair_iou(
    boxes: NDArray[np.float64], others: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(P,) IoU of P pairs of xyxy boxes; of a crowd region, the share of the first box.

    In the order of operations of pycocotools, so that an IoU on a threshold is on it here too.
    """
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    other_corner, other_sides = others[:, :2], others[:, 2:] - others[:, :2]
    shared = np.minimum(sides + corner, other_sides + other_corner) - np.maximum(
        corner, other_corner
    )
    both = np.where((shared > 0).all(axis=1), shared.prod(axis=1), 0.0)
    area, other_area = sides.prod(axis=1), other_sides.prod(axis=1)
    union = np.where(crowd, area, area + other_area - both)
    iou: NDArray[np.float64] = np.divide(both, union, out=np.zeros_like(both), where=both > 0)
    return iou
