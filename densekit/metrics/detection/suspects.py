"""Annotated boxes that are probably wrong or lacking: where a detector is sure of another answer.

Shape letters: D detections, M annotated boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Suspect
from densekit.metrics.detection.coco_protocol import AREA_EDGES
from densekit.metrics.detection.outcomes import IOU, Outcomes
from densekit.metrics.detection.overlaps import pair_iou
from densekit.metrics.means import Values, ratio
from densekit.metrics.thresholds import MIN_OBJECTS

HIGH_IOU = 0.75
"""From which a detection of another class disagrees about the class, not about the place."""
NEAR_IOU = 0.1
"""Up to which nothing is near."""
NEARLY_ALL = 0.8
"""Share of the objects of a class and size from which one that is not seen is suspicious."""
LISTED = 100
"""Most suspects of each reason."""


def detection_suspects(outcomes: Outcomes, thresholds: Values) -> list[Suspect]:
    """Annotations to look at, the most confident disagreement first.

    Args:
        outcomes: The evaluation.
        thresholds: (K,) score from which detections of a class are believed.
    """
    confident = outcomes.detections.scores >= thresholds[outcomes.detections.labels]
    found = [
        *_lacking(outcomes, confident),
        *_of_another_class(outcomes, confident),
        *_unseen(outcomes, confident),
    ]
    return sorted(found, key=lambda suspect: -suspect.confidence)


def _lacking(outcomes: Outcomes, confident: NDArray[np.bool_]) -> Iterator[Suspect]:
    """Detections with nothing annotated near; of those of one place, the most confident."""
    nearest = np.maximum(outcomes.same.iou, outcomes.other.iou)
    chosen = confident & outcomes.counts & (outcomes.target < 0) & (nearest <= NEAR_IOU)
    detections = outcomes.detections
    listed: list[int] = []
    for row in _by_score(outcomes, chosen):
        if len(listed) == LISTED:
            break
        others = [other for other in listed if detections.image[other] == detections.image[row]]
        box = np.repeat(detections.boxes[row : row + 1], len(others), axis=0)
        iou = pair_iou(box, detections.boxes[others], np.zeros(len(others), bool))
        if not (iou >= IOU).any():
            listed.append(row)
            name = outcomes.names[detections.labels[row]]
            yield _suspect(outcomes, row, f"no box annotated where '{name}' was found")


def _of_another_class(outcomes: Outcomes, confident: NDArray[np.bool_]) -> Iterator[Suspect]:
    """Objects that their own class did not find, and another one did, very close to them."""
    box = outcomes.other.box
    lost = np.append(outcomes.finder < 0, False)[box]
    chosen = confident & outcomes.counts & ~outcomes.right & lost
    chosen &= outcomes.other.iou >= HIGH_IOU
    rows = np.array(_by_score(outcomes, chosen), dtype=np.int64)
    _, first = np.unique(box[rows], return_index=True)
    for row in rows[np.sort(first)][:LISTED]:
        names = outcomes.names
        annotated = names[outcomes.truth.labels[box[row]]]
        detected = names[outcomes.detections.labels[row]]
        reason = f"annotated as '{annotated}', found as '{detected}'"
        yield _suspect(outcomes, int(row), reason)


def _unseen(outcomes: Outcomes, confident: NDArray[np.bool_]) -> Iterator[Suspect]:
    """Objects that no detection of any score comes near, in images where others were found.

    The confidence is the share of such objects, of the same class and size, that is found: a model
    that finds nearly all of them is probably right about one that it does not see at all.
    """
    labels = outcomes.truth.labels
    right = outcomes.right & confident
    kind = (len(AREA_EDGES) + 1) * labels + np.searchsorted(
        AREA_EDGES, outcomes.truth.area, side="right"
    )
    objects = np.bincount(kind[outcomes.is_object], minlength=kind.max(initial=0) + 1)
    found = np.bincount(kind[outcomes.target[right]], minlength=len(objects))
    share = np.where(objects >= MIN_OBJECTS, ratio(found, objects), 0.0)[kind]  # (M,)
    near = np.zeros(len(labels))
    np.maximum.at(near, outcomes.overlaps.box, outcomes.overlaps.iou)
    sure = np.zeros(len(outcomes.image_ids), dtype=bool)
    sure[outcomes.detections.image[right]] = True
    chosen = outcomes.is_object & (near <= NEAR_IOU) & sure[outcomes.truth.image]
    rows = np.flatnonzero(chosen & (share >= NEARLY_ALL))
    for row in rows[np.argsort(-share[rows], kind="stable")][:LISTED]:
        yield Suspect(
            image_id=int(outcomes.image_ids[outcomes.truth.image[row]]),
            reason=f"'{outcomes.names[labels[row]]}' annotated where nothing was found",
            confidence=float(share[row]),
            box=_box(outcomes.truth.boxes[row]),
        )


def _by_score(outcomes: Outcomes, chosen: NDArray[np.bool_]) -> list[int]:
    rows = np.flatnonzero(chosen)
    order: list[int] = rows[np.argsort(-outcomes.detections.scores[rows], kind="stable")].tolist()
    return order


def _suspect(outcomes: Outcomes, row: int, reason: str) -> Suspect:
    detections = outcomes.detections
    return Suspect(
        image_id=int(outcomes.image_ids[detections.image[row]]),
        reason=reason,
        confidence=float(detections.scores[row]),
        box=_box(detections.boxes[row]),
    )


def _box(corners: Values) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2
