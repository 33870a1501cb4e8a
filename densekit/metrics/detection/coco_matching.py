"""COCO's matching of detections to annotated boxes, detection by detection.

The numbers of the protocol come from `coco_protocol`; what is said about single detections and
images, and every resampled average precision, comes from these matches. Both agree.

Shape letters: D detections, G annotated boxes, T IoU thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.overlaps import Overlaps, overlaps
from densekit.metrics.detection.resampled_ap import Ranked

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
    detection = limited(detections, max_detections)
    found = overlaps(detections.of(detection), truth)
    return match_overlaps(detection, found, detections, truth, thresholds)


def limited(detections: Detections, max_detections: int) -> NDArray[np.int64]:
    """(D,) rows of the detections that count, by image, class and falling score."""
    order = np.lexsort((-detections.scores, detections.labels, detections.image))
    keys = np.stack((detections.image[order], detections.labels[order]))
    rank = _places(keys)
    return order[rank < max_detections]


def match_overlaps(
    detection: NDArray[np.int64],
    found: Overlaps,
    detections: Detections,
    truth: Annotated,
    thresholds: NDArray[np.float64],
) -> Matches:
    """Likewise, of overlaps that are known.

    Args:
        detection: What `limited` returned.
        found: Of these detections: `found.detection` are places in `detection`.
        detections: All of an evaluation.
        truth: All annotated boxes of it.
        thresholds: (T,) IoU from which a box may be taken.
    """
    least = np.minimum(thresholds, 1 - 1e-10)
    labels = detections.labels[detection]
    near = found.of(
        (labels[found.detection] == truth.labels[found.box]) & (found.iou >= least.min())
    )
    target = np.full((len(thresholds), len(detection)), -1)
    free = np.ones((len(thresholds), len(truth.labels)), dtype=bool)
    for pairs in _rounds(near, np.stack((detections.image[detection], labels))):
        _take(pairs, truth.crowd, least, target, free)
    return Matches(detection, target, np.append(truth.crowd, False)[target])


def ranked(
    matches: Matches,
    detections: Detections,
    truth: Annotated,
    label: int,
    unjudged: NDArray[np.bool_] | None = None,
) -> Ranked:
    """The matches of one class by falling score, as resampled average precision takes them.

    Args:
        matches: Of the evaluation.
        detections: All of it.
        truth: All annotated boxes of it.
        label: The class.
        unjudged: Of all detections, whether one counts only if it is right; None for none.
    """
    of_class = np.flatnonzero(detections.labels[matches.detection] == label)
    score = detections.scores[matches.detection[of_class]]
    order = of_class[np.argsort(-score, kind="stable")]
    target, crowd = matches.target[:, order], matches.crowd[:, order]
    objects = (truth.labels == label) & ~truth.crowd
    counts = ~crowd
    if unjudged is not None:
        counts &= (target >= 0) | ~unjudged[matches.detection[order]]
    return Ranked(
        image=detections.image[matches.detection[order]],
        hits=(target >= 0) & ~crowd,
        counts=counts,
        objects=truth.image[objects],
    )


def _places(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) place of each column of sorted keys (2, N) among the equal ones, from 0."""
    count = keys.shape[1]
    starts = np.flatnonzero(
        np.r_[np.ones(min(count, 1), bool), (keys[:, 1:] != keys[:, :-1]).any(0)]
    )
    places: NDArray[np.int64] = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    return places


def _rounds(pairs: Overlaps, keys: NDArray[np.int64]) -> list[Overlaps]:
    """The pairs of each image's and class's first detection, of each one's second, and so on.

    Args:
        pairs: Any.
        keys: (2, D) image and class of every detection.
    """
    detection, inverse = np.unique(pairs.detection, return_inverse=True)
    turn = _places(keys[:, detection])[inverse]
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))[:-1]
    columns = (np.split(c[order], ends) for c in (pairs.detection, pairs.box, pairs.iou))
    return [Overlaps(*of_round) for of_round in zip(*columns, strict=True)]


def _take(
    pairs: Overlaps,
    crowd: NDArray[np.bool_],
    least: NDArray[np.float64],
    target: NDArray[np.int64],
    free: NDArray[np.bool_],
) -> None:
    """Lets each detection take a box: at most one detection of an image and class is among them."""
    starts = np.flatnonzero(np.diff(pairs.detection, prepend=-1))
    part = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(pairs.detection)))
    in_crowd = crowd[pairs.box]
    near = free[:, pairs.box] & (pairs.iou >= least[:, None])
    objects = near & ~in_crowd
    found_object = np.logical_or.reduceat(objects, starts, axis=1)[:, part]
    value = np.where(np.where(found_object, objects, near), pairs.iou, -1.0)
    largest = np.maximum.reduceat(value, starts, axis=1)
    # The last of the largest: the box that pycocotools' scan ends at.
    is_largest = (value == largest[:, part]) & (value >= 0)
    last = np.maximum.reduceat(np.where(is_largest, np.arange(len(part)), -1), starts, axis=1)
    level, which = np.nonzero(last >= 0)
    box = pairs.box[last[level, which]]
    target[level, pairs.detection[starts[which]]] = box
    free[level, box] &= crowd[box]
