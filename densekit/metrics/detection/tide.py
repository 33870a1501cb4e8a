"""What costs a detector average precision: the error types of TIDE.

Bolya et al. 2020, "TIDE: A general toolbox for identifying object detection errors", section 3.
Every false positive has exactly one type; each type's share is the AP50 that would be gained if an
oracle repaired the errors of that type alone. The shares do not sum up to what is lacking.

Shape letters: D detections, M annotated boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Bars, Table
from densekit.metrics.detection.outcomes import IOU, Outcomes
from densekit.metrics.detection.resampled_ap import Ranked, average_precision, recall_points

BACKGROUND_IOU = 0.1
"""Up to here a detection lies on background."""

CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(5)
KINDS = ("classification", "localisation", "both", "duplicate", "background")
"""Types of false positives in the order of their codes."""

POINTS = recall_points(101)


@dataclass(frozen=True)
class Errors:
    """The type of every error.

    Attributes:
        kind: (D,) code of each detection that is not right, -1 of the others. One in a crowd region
            has a type as well, as in release 1.0.1: it is no error, but may be what a repair finds.
        box: (D,) row of the object that a detection of wrong class or place belongs to, else -1.
        repaired: (D,) whether such a one would find its object: nothing else found it, and no other
            such detection of it has a higher score.
        missed: (M,) objects that nothing found and no such detection belongs to.
    """

    kind: NDArray[np.int64]
    box: NDArray[np.int64]
    repaired: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def errors(outcomes: Outcomes) -> Errors:
    """Types of the errors of an evaluation, table 1 of the paper."""
    same, other = outcomes.same, outcomes.other
    rules = (
        (same.iou >= BACKGROUND_IOU) & (same.iou <= IOU),
        other.iou >= IOU,
        same.iou > IOU,  # the object is taken, or this detection had found it
        np.maximum(same.iou, other.iou) <= BACKGROUND_IOU,
    )
    kinds = (LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND)
    kind = np.where(outcomes.right, -1, np.select(rules, kinds, default=BOTH))
    boxes = [other.box, same.box]
    box = np.select([kind == CLASSIFICATION, kind == LOCALISATION], boxes, default=-1)
    taken = np.append(outcomes.finder >= 0, True)  # the last one for detections without a box
    useful = np.flatnonzero(~taken[box])
    order = useful[np.argsort(-outcomes.detections.scores[useful], kind="stable")]
    wanted, first = np.unique(box[order], return_index=True)
    repaired = np.zeros(len(kind), dtype=bool)
    repaired[order[first]] = True
    missed = outcomes.is_object & (outcomes.finder < 0)
    missed[wanted] = False
    return Errors(kind, box, repaired, missed)


def gains(outcomes: Outcomes, found: Errors) -> dict[str, float]:
    """AP50, 0..1, that repairing each type would add: the five `KINDS`, `missed`, and two more.

    `false positives` is with every false positive gone, `false negatives` with every object gone
    that was not found.
    """
    objects = _count(outcomes, outcomes.is_object)
    missing = outcomes.is_object & (outcomes.finder < 0)
    counted, right = outcomes.counts, outcomes.right
    labels = outcomes.detections.labels
    base = _mean_ap(outcomes, labels, right, counted, objects, objects)
    repaired = {
        name: _mean_ap(outcomes, *_repaired(outcomes, found, kind), objects, objects)
        for kind, name in enumerate(KINDS)
    }
    for name, gone in (("missed", found.missed), ("false negatives", missing)):
        left = objects - _count(outcomes, gone)
        repaired[name] = _mean_ap(outcomes, labels, right, counted, left, objects)
    repaired["false positives"] = _mean_ap(outcomes, labels, right, right, objects, objects)
    order = (*KINDS, "missed", "false positives", "false negatives")
    # A few objects less move the 101 points of recall: as in TIDE, that is no loss.
    return {name: max(repaired[name] - base, 0.0) for name in order}


def error_analyses(outcomes: Outcomes) -> list[Analysis]:
    """AP lost by type, and the number of errors of each class."""
    found = errors(outcomes)
    columns = ("class", "objects", "found", *KINDS, "missed")
    return [
        Bars(
            title="AP50 lost by type of error",
            y="AP50 gained without it",
            values=gains(outcomes, found),
            about=(
                "TIDE (Bolya et al. 2020): what AP50 would gain if one type of error alone were"
                " repaired. Localisation: right class, IoU of 0.1 to 0.5. Classification: IoU of at"
                " least 0.5 with an object of another class. Both: neither class nor place."
                " Duplicate: the object was found already. Background: IoU of at most 0.1 with"
                " anything. Missed: objects that no other error belongs to. The last two hold all"
                " false positives and all false negatives."
            ),
        ),
        Table("Errors by class", columns, list(_rows(outcomes, found))),
    ]


def _rows(outcomes: Outcomes, found: Errors) -> Iterator[list[str | int]]:
    objects, missed = _count(outcomes, outcomes.is_object), _count(outcomes, found.missed)
    hit = _count(outcomes, outcomes.finder >= 0)
    size = (len(KINDS), len(outcomes.names))
    number = np.zeros(size, dtype=np.int64)
    wrong = outcomes.counts & ~outcomes.right
    np.add.at(number, (found.kind[wrong], outcomes.detections.labels[wrong]), 1)
    for label, name in enumerate(outcomes.names):
        numbers = (objects[label], hit[label], *number[:, label], missed[label])
        yield [name, *map(int, numbers)]


def _repaired(
    outcomes: Outcomes, found: Errors, kind: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """(D,) labels, whether right and whether counted, with the errors of one type repaired."""
    of_kind = found.kind == kind
    repaired = of_kind & found.repaired
    labels = outcomes.detections.labels.copy()
    labels[repaired] = outcomes.truth.labels[found.box[repaired]]
    return labels, outcomes.right | repaired, (outcomes.counts & ~of_kind) | repaired


def _mean_ap(
    outcomes: Outcomes,
    labels: NDArray[np.int64],
    right: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    objects: NDArray[np.int64],
    annotated: NDArray[np.int64],
) -> float:
    """Mean over classes.

    Args:
        outcomes: The evaluation.
        labels: (D,) of the detections.
        right: (D,).
        counted: (D,).
        objects: (K,) number of objects to find; as in TIDE, a class without any is left out if it
            has no detections either, and has 0 otherwise.
        annotated: (K,) number of annotated objects; as in COCO, a class without any is left out.
    """
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((-outcomes.detections.scores[rows], labels[rows]))]
    ends = np.searchsorted(labels[rows], np.arange(1, len(objects)))
    hits = np.split(right[rows], ends)
    measured = [
        _ap(hits[label], int(objects[label]))
        for label in np.flatnonzero(annotated)
        if objects[label] or len(hits[label])
    ]
    return float(np.mean(measured)) if measured else 1.0  # nothing is left to be wrong


def _ap(hits: NDArray[np.bool_], objects: int) -> float:
    """AP of detections by falling score; 0 with nothing to find."""
    if not objects:
        return 0.0
    image = np.zeros(len(hits), dtype=np.int64)
    ranked = Ranked(image, hits[None], np.ones((1, len(hits)), bool), np.zeros(objects, np.int64))
    return float(average_precision(ranked, np.ones((1, 1), np.int64), POINTS)[0, 0])


def _count(outcomes: Outcomes, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(K,) number of chosen (M,) annotated boxes by class."""
    number: NDArray[np.int64] = np.bincount(
        outcomes.truth.labels[chosen], minlength=len(outcomes.names)
    )
    return number
