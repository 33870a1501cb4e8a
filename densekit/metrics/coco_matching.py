"""COCO's matching of detections to annotated boxes, detection by detection.

The numbers of the protocol come from `coco_protocol`; what is said about single detections and
images, and every resampled average precision, comes from these matches. Both agree.

Shape letters: D detections, G annotated boxes, T IoU thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.box_metric import Annotated, Detections
from densekit.metrics.resampled_ap import Ranked

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The ten thresholds over which COCO's AP is averaged."""


@dataclass(frozen=True)
class Matches:
    """What became of the detections that count: the best of each image and class.

    Attributes:
        detection: (D,) row of each among all detections, by image, class and falling score.
        target: (T, D) row of the annotated box that it found, -1 for none.
        crowd: (T, D) whether that is a crowd region: such a detection counts neither way.
    """

    detection: NDArray[np.int64]
    target: NDArray[np.int64]
    crowd: NDArray[np.bool_]


def match(
    detections: Detections,
    truth: Annotated,
    *,
    max_detections: int = 100,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
) -> Matches:
    """Matches greedily, as pycocotools does for objects of any size.

    By falling score, each detection takes the free box of its image and class that it overlaps
    most, the last among equals, or else a crowd region, which stays free.

    Args:
        detections: All of an evaluation.
        truth: All annotated boxes of it.
        max_detections: Maximum number of detections per image and class.
        thresholds: (T,) IoU from which a box may be taken.
    """
    groups = Groups(detections, truth)
    kept = [rows[:max_detections] for rows in groups.detections]
    detection = np.concatenate([np.zeros(0, np.int64), *kept])
    target = np.full((len(thresholds), len(detection)), -1)
    least = np.minimum(thresholds, 1 - 1e-10)
    start = 0
    for rows, boxes in zip(kept, groups.boxes, strict=True):
        if len(boxes):
            part = slice(start, start + len(rows))
            crowd = truth.crowd[boxes]
            iou = coco_iou(detections.boxes[rows], truth.boxes[boxes], crowd)
            _match_group(iou, crowd, least, boxes, target[:, part])
        start += len(rows)
    crowd = np.append(truth.crowd, False)[target]
    return Matches(detection, target, crowd)


def ranked(matches: Matches, detections: Detections, truth: Annotated, label: int) -> Ranked:
    """The matches of one class by falling score, as resampled average precision takes them."""
    of_class = np.flatnonzero(detections.labels[matches.detection] == label)
    score = detections.scores[matches.detection[of_class]]
    order = of_class[np.argsort(-score, kind="stable")]
    target, crowd = matches.target[:, order], matches.crowd[:, order]
    objects = (truth.labels == label) & ~truth.crowd
    return Ranked(
        image=detections.image[matches.detection[order]],
        hits=(target >= 0) & ~crowd,
        counts=~crowd,
        objects=truth.image[objects],
    )


class Groups:
    """Detections and annotated boxes by image and class.

    Attributes:
        detections: Rows of each group's detections, by falling score, in the order of the groups.
        boxes: Rows of the annotated boxes of the same groups.
    """

    def __init__(self, detections: Detections, truth: Annotated) -> None:
        classes = 1 + max(detections.labels.max(initial=0), truth.labels.max(initial=0))
        mine = detections.image * classes + detections.labels
        theirs = truth.image * classes + truth.labels
        order = np.lexsort((-detections.scores, mine))
        keys, starts = np.unique(mine[order], return_index=True)
        self.detections = np.split(order, starts[1:]) if len(keys) else []
        of_truth = np.argsort(theirs, kind="stable")
        low, high = (np.searchsorted(theirs[of_truth], keys, side) for side in ("left", "right"))
        self.boxes = [of_truth[a:b] for a, b in zip(low, high, strict=True)]


def coco_iou(
    boxes: NDArray[np.float64], others: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(D, G) IoU of xyxy boxes (D, 4) and (G, 4); of a crowd region, share of the detection.

    In the order of operations of pycocotools, so that an IoU on a threshold is on it here too.
    """
    corner, sides = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    other_corner, other_sides = others[:, :2], others[:, 2:] - others[:, :2]
    overlap = np.minimum(sides + corner, other_sides + other_corner) - np.maximum(
        corner, other_corner
    )
    both = overlap.clip(min=0).prod(axis=2)
    area, other_area = sides.prod(axis=2), other_sides.prod(axis=1)
    union = np.where(crowd, area, area + other_area - both)
    iou: NDArray[np.float64] = np.divide(both, union, out=np.zeros_like(both), where=both > 0)
    return iou


def _match_group(
    iou: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    least: NDArray[np.float64],
    boxes: NDArray[np.int64],
    target: NDArray[np.int64],
) -> None:
    """Fills the (T, D) targets of one image and class."""
    free = np.ones((len(least), len(boxes)), dtype=bool)
    level = np.arange(len(least))
    for d in np.flatnonzero(iou.max(axis=1) >= least[0]):
        near = free & (iou[d] >= least[:, None])
        objects = near & ~crowd
        # The last of the largest: the box that pycocotools' scan ends at.
        candidates = np.where(objects.any(axis=1, keepdims=True), objects, near & crowd)
        value = np.where(candidates, iou[d], -1.0)
        best = value.shape[1] - 1 - value[:, ::-1].argmax(axis=1)
        found = candidates.any(axis=1)
        target[found, d] = boxes[best[found]]
        free[level[found], best[found]] &= crowd[best[found]]
