"""Which class is detected where another one, or nothing, is annotated, and the other way round.

Shape letters: D detections, M annotated boxes, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Matrix, Table
from densekit.metrics.detection.outcomes import IOU, Outcomes

LISTED = 20
"""Number of the most frequent confusions that are listed."""


def confusion(outcomes: Outcomes, confident: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts confusions.

    A detection that found an object of its class (as AP counts it) is on the diagonal. What is left
    over is paired across classes: by falling score, each detection takes the object left over that
    it overlaps most, if the IoU is at least 0.5.

    Args:
        outcomes: The evaluation.
        confident: (D,) which detections are looked at.

    Returns:
        (K + 1, K + 1) by annotated class (row) and detected class (column); the last row holds
        detections of nothing, the last column objects that were not detected.
    """
    count = len(outcomes.names)
    right = outcomes.right & confident
    annotated, detected = outcomes.truth.labels, outcomes.detections.labels
    taken = ~outcomes.is_object
    taken[outcomes.target[right]] = True
    detection, box = _across(outcomes, confident & ~outcomes.right & outcomes.counts, taken)
    nothing = confident & ~outcomes.right & outcomes.counts
    nothing[detection] = False
    taken[box] = True
    counts = np.zeros((count + 1, count + 1), dtype=np.int64)
    np.add.at(counts, (detected[right], detected[right]), 1)
    np.add.at(counts, (annotated[box], detected[detection]), 1)
    counts[count, :count] = np.bincount(detected[nothing], minlength=count)
    counts[:count, count] = np.bincount(annotated[~taken], minlength=count)
    return counts


def confusion_analyses(outcomes: Outcomes, confident: NDArray[np.bool_]) -> list[Analysis]:
    """The matrix and the most frequent confusions."""
    counts = confusion(outcomes, confident)
    rows, columns = [*outcomes.names, "not annotated"], [*outcomes.names, "not detected"]
    about = (
        "Detections from the measured threshold of their class on, at an IoU of 0.5. An object that"
        " its own class found is on the diagonal; what is left over is paired across classes."
    )
    matrix = Matrix("Confusion matrix", rows, columns, counts.astype(np.float64), about)
    found: list[Analysis] = [matrix]
    between = counts[:-1, :-1] * (1 - np.eye(len(outcomes.names), dtype=np.int64))
    order = np.argsort(-between, axis=None, kind="stable")[:LISTED]
    places = zip(*np.unravel_index(order, between.shape), strict=True)
    listed = [(rows[i], columns[j], int(between[i, j])) for i, j in places if between[i, j]]
    if listed:
        headers = ("annotated", "detected", "objects")
        found.append(Table("Most frequent confusions", headers, listed, about))
    return found


def _across(
    outcomes: Outcomes, left: NDArray[np.bool_], taken: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs detections (D,) with objects of other classes; rows of both."""
    pairs = outcomes.overlaps
    near = (pairs.iou >= IOU) & left[pairs.detection] & ~taken[pairs.box]
    pairs = pairs.of(near)
    scores = outcomes.detections.scores[pairs.detection]
    order = np.lexsort((-pairs.iou, pairs.detection, -scores))
    used_detections: set[int] = set()
    used_boxes: set[int] = set()
    found = []
    columns = (pairs.detection[order].tolist(), pairs.box[order].tolist())
    for detection, box in zip(*columns, strict=True):
        if detection not in used_detections and box not in used_boxes:
            used_detections.add(detection)
            used_boxes.add(box)
            found.append((detection, box))
    rows = np.array(found, dtype=np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]
