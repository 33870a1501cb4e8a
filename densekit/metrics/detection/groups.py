"""What an evaluation says of classes, of sizes and of crowded images.

Shape letters: N images, D detections, M annotated boxes, K classes, T IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Cell, Table
from densekit.metrics.class_tables import cell
from densekit.metrics.detection.box_rows import Annotated, Detections
from densekit.metrics.detection.coco_protocol import AREA_EDGES, AREAS, CocoTables, measured_mean
from densekit.metrics.detection.outcomes import Outcomes
from densekit.metrics.detection.overlaps import overlaps
from densekit.metrics.detection.resampled_ap import Ranked, average_precision, recall_points
from densekit.metrics.means import Values, column_means, ratio

SIZES = ("small (below 32 x 32 pixels)", "medium (up to 96 x 96)", "large")
OBJECTS = (1, 2, 6, 11, 21)
"""Least number of objects of each group of images."""
OVERLAPS = (0.0, 0.1, 0.3, 0.5)
"""IoU above which objects are in each group but the first, whose objects overlap no other."""

AT_THRESHOLD = ("precision", "recall", "F1")

POINTS = recall_points(101)


def group_analyses(
    outcomes: Outcomes,
    tables: CocoTables,
    thresholds: Values,
    measured: Mapping[str, float],
) -> list[Analysis]:
    """Tables by class, size and crowding.

    Args:
        outcomes: The evaluation.
        tables: Of it, by COCO's protocol.
        thresholds: (K,) score from which detections of a class are kept.
        measured: Threshold of each class that has one of its own.
    """
    confident = outcomes.detections.scores >= thresholds[outcomes.detections.labels]
    found = outcomes.finder >= 0
    found[found] = confident[outcomes.finder[found]]
    return [
        _by_class(outcomes, tables, thresholds, measured, confident, found),
        _by_size(outcomes, tables, found),
        _by_number(outcomes, found),
        _by_overlap(outcomes, found),
    ]


def _by_class(
    outcomes: Outcomes,
    tables: CocoTables,
    thresholds: Values,
    measured: Mapping[str, float],
    confident: NDArray[np.bool_],
    found: NDArray[np.bool_],
) -> Table:
    size = len(outcomes.names)
    labels = outcomes.truth.labels
    objects = np.bincount(labels[outcomes.is_object], minlength=size)
    hits = np.bincount(labels[found], minlength=size)
    kept = np.bincount(outcomes.detections.labels[confident & outcomes.counts], minlength=size)
    at_threshold = np.stack(
        (ratio(hits, kept), ratio(hits, objects), ratio(2 * hits, kept + objects))
    )
    rows = [
        [
            name,
            int(objects[label]),
            *_aps(tables, label),
            float(thresholds[label]),
            "yes" if name in measured else "no",
            *map(cell, at_threshold[:, label]),
        ]
        for label, name in enumerate(outcomes.names)
    ]
    ap_columns = ("AP", "AP50", "AP75", *(f"AP{area}" for area in AREAS[1:]))
    return Table(
        title="By class",
        columns=("class", "objects", *ap_columns, "threshold", "own threshold", *AT_THRESHOLD),
        rows=rows,
        about=(
            "AP by COCO's protocol. Precision, recall and F1 are of the detections from the"
            " threshold on, at an IoU of 0.5; a class without a measured threshold of its own takes"
            " that of all classes."
        ),
    )


def _aps(tables: CocoTables, label: int) -> list[Cell]:
    """AP, AP50, AP75 and AP by size of a class."""
    precision = tables.precision[:, :, label, :, -1]  # (T, R, A)
    cells = [precision[:, :, 0], precision[0, :, 0], precision[5, :, 0]]
    cells += [precision[:, :, area] for area in (1, 2, 3)]
    return [cell(measured_mean(one)) for one in cells]


def _by_size(outcomes: Outcomes, tables: CocoTables, found: NDArray[np.bool_]) -> Table:
    area = outcomes.truth.area
    edges = (0.0, *AREA_EDGES, np.inf)
    rows = []
    for place, name in enumerate(SIZES, start=1):
        low, high = edges[place - 1 : place + 1]
        chosen = outcomes.is_object & (area >= low) & (area <= high)
        precision = tables.precision[..., place, -1]
        aps = (measured_mean(precision), measured_mean(precision[0]))
        recalls = (measured_mean(tables.recall[:, :, place, -1]), _share(found, chosen))
        rows.append([name, int(chosen.sum()), *map(cell, (*aps, *recalls))])
    return Table(
        title="By size",
        columns=("area of the object", "objects", "AP", "AP50", "AR", "found"),
        rows=rows,
        about=(
            "COCO's area ranges and protocol; found: share of the objects found at an IoU of 0.5"
            " from the threshold on."
        ),
    )


def _by_number(outcomes: Outcomes, found: NDArray[np.bool_]) -> Table:
    number = np.bincount(
        outcomes.truth.image[outcomes.is_object], minlength=len(outcomes.image_ids)
    )
    group = np.searchsorted(OBJECTS, number, side="right") - 1  # (N,), -1 without objects
    draws = (np.arange(len(OBJECTS))[:, None] == group).astype(np.int64)
    aps = column_means(np.stack([*_ap50_of_draws(outcomes, draws)]))
    names = [*_ranges(OBJECTS), f"{OBJECTS[-1]} or more"]
    rows = [
        [
            name,
            int(draws[place].sum()),
            int(number[group == place].sum()),
            cell(aps[place]),
            cell(_share(found, outcomes.is_object & (group[outcomes.truth.image] == place))),
        ]
        for place, name in enumerate(names)
    ]
    return Table(
        title="By number of objects in the image",
        columns=("objects in the image", "images", "objects", "AP50", "found"),
        rows=rows,
        about="AP50 of these images alone; found: as by size.",
    )


def _by_overlap(outcomes: Outcomes, found: NDArray[np.bool_]) -> Table:
    largest = _overlap_among_objects(outcomes)
    group = np.searchsorted(OVERLAPS, largest, side="left")
    names = ["none", *(f"{a:g} to {b:g}" for a, b in zip(OVERLAPS, OVERLAPS[1:], strict=False))]
    names.append(f"above {OVERLAPS[-1]:g}")
    rows = []
    for place, name in enumerate(names):
        chosen = outcomes.is_object & (group == place)
        anywhere = outcomes.finder >= 0
        shares = (_share(found, chosen), _share(anywhere, chosen))
        rows.append([name, int(chosen.sum()), *map(cell, shares)])
    return Table(
        title="By overlap with a neighbour",
        columns=("largest IoU with another object", "objects", "found", "found at any score"),
        rows=rows,
        about="Objects of any class in the same image; found: as by size.",
    )


def _overlap_among_objects(outcomes: Outcomes) -> Values:
    """(M,) largest IoU of each object with another one of its image."""
    rows = np.flatnonzero(outcomes.is_object)
    truth = outcomes.truth
    image, boxes, labels = truth.image[rows], truth.boxes[rows], truth.labels[rows]
    none = np.zeros(len(rows), dtype=bool)
    pairs = overlaps(
        Detections(image, labels, np.zeros(len(rows)), boxes),
        Annotated(image, labels, np.zeros(len(rows)), boxes, none, none),
    )
    pairs = pairs.of(pairs.detection != pairs.box)
    largest = np.zeros(len(truth.labels))
    np.maximum.at(largest, rows[pairs.detection], pairs.iou)
    return largest


def _ap50_of_draws(outcomes: Outcomes, draws: NDArray[np.int64]) -> Iterator[Values]:
    """AP50 of each class in each draw of images."""
    for label in range(len(outcomes.names)):
        rows = np.flatnonzero(outcomes.detections.labels == label)
        rows = rows[np.argsort(-outcomes.detections.scores[rows], kind="stable")]
        objects = outcomes.is_object & (outcomes.truth.labels == label)
        ranked = Ranked(
            image=outcomes.detections.image[rows],
            hits=outcomes.right[None, rows],
            counts=outcomes.counts[None, rows],
            objects=outcomes.truth.image[objects],
        )
        yield average_precision(ranked, draws, POINTS)[0]


def _ranges(least: Sequence[int]) -> Iterator[str]:
    for low, following in zip(least, least[1:], strict=False):
        yield str(low) if low == following - 1 else f"{low} to {following - 1}"


def _share(found: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> float:
    return float(ratio(found[chosen].sum(keepdims=True), chosen.sum(keepdims=True))[0])
