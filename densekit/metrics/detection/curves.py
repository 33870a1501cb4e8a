"""Precision over recall, and precision, recall and F1 over the score, per class and overall.

Shape letters: K classes, R recall points (101), P points of a line.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Curves
from densekit.metrics.detection.coco_protocol import CocoTables
from densekit.metrics.detection.outcomes import Outcomes
from densekit.metrics.means import Values, column_means
from densekit.metrics.thresholds import (
    OperatingPoints,
    operating_points,
    together,
)

ALL = "all classes"
MAX_LINES = 80
"""Classes with a line of their own: those with the most objects."""

GRID = np.arange(100) / 100
"""Scores at which lines have a point."""

Line = tuple[NDArray[np.float64], NDArray[np.float64]]


def curve_analyses(
    outcomes: Outcomes, tables: CocoTables, thresholds: Mapping[str, float]
) -> list[Analysis]:
    """The curves of an evaluation.

    Args:
        outcomes: The evaluation.
        tables: Of it, by COCO's protocol.
        thresholds: Threshold by class, and of all classes under `ALL`, where one was measured.
    """
    return [*_precision_recall(outcomes, tables), *_over_scores(outcomes, thresholds)]


def marks(facts: Mapping[str, object]) -> dict[str, float]:
    """The thresholds of `measured_thresholds` by the name of their line."""
    found = facts.get("best_thresholds")
    if not isinstance(found, Mapping):
        return {}
    return {ALL: found["overall"], **found["classes"]}


def _shown(outcomes: Outcomes) -> NDArray[np.int64]:
    """Labels with a line, ascending."""
    labels = outcomes.truth.labels[outcomes.is_object]
    number = np.bincount(labels, minlength=len(outcomes.names))
    most = np.argsort(-number, kind="stable")[:MAX_LINES]
    shown: NDArray[np.int64] = np.sort(most[number[most] > 0])
    return shown


def _precision_recall(outcomes: Outcomes, tables: CocoTables) -> list[Analysis]:
    about = (
        "COCO's precision: the best at each recall or beyond; the mean of a line is its AP. The"
        f" line of {ALL} is the mean of the classes."
    )
    recall = np.linspace(0, 1, tables.precision.shape[1])
    curves: list[Analysis] = []
    for level, iou in ((0, "0.5"), (5, "0.75")):
        precision = tables.precision[level, :, :, 0, -1].T  # (K, R)
        measured = np.where(precision < 0, np.nan, precision)
        lines = {ALL: column_means(measured)}
        lines |= {outcomes.names[label]: measured[label] for label in _shown(outcomes)}
        points = {
            name: (recall[::2], line[::2]) for name, line in lines.items() if not np.isnan(line[0])
        }
        title = f"Precision and recall at IoU {iou}"
        curves.append(Curves(title, "recall", "precision", points, about))
    return curves


def _over_scores(outcomes: Outcomes, thresholds: Mapping[str, float]) -> list[Analysis]:
    scored = dict(outcomes.scored())
    shown = [outcomes.names[label] for label in _shown(outcomes)]
    points = {ALL: operating_points(together(list(scored.values())))}
    points |= {name: operating_points(scored[name]) for name in shown}
    points = {name: line for name, line in points.items() if len(line.scores)}
    best = {
        name: (thresholds[name], float(_at(line, line.f1, np.array([thresholds[name]]))[0]))
        for name, line in points.items()
        if name in thresholds
    }
    about = (
        "Of the detections from a score on, at an IoU of 0.5. The marks are the measured"
        f" thresholds. The line of {ALL} is of all their detections together."
    )
    ways = (("F1", "f1"), ("Precision", "precision"), ("Recall", "recall"))
    return [
        Curves(
            title=f"{title} over the score",
            x="score",
            y=title,
            lines={n: _line(points[n], getattr(points[n], name)) for n in points},
            about=about,
            marked=best if name == "f1" else {},
        )
        for title, name in ways
    ]


def _line(points: OperatingPoints, values: Values) -> Line:
    there = GRID[points.scores[0] >= GRID]
    return there, _at(points, values, there)


def _at(points: OperatingPoints, values: Values, thresholds: Values) -> Values:
    """(P,) values of the detections from each of (P,) thresholds on; none is above all scores."""
    kept = np.searchsorted(-points.scores, -thresholds, side="right")
    at: Values = values[kept - 1]
    return at
