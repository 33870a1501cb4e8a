"""Curves over the score from which predictions are kept.

Shape letters: U distinct scores, P points of a line.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Curves
from densekit.metrics.means import Values
from densekit.metrics.thresholds import OperatingPoints, Scored, operating_points

POINTS = 200
"""Most points of a line."""
Line = tuple[Values, Values]


def precision_recall(classes: Mapping[str, Scored]) -> Curves:
    """Precision over recall of each class, with its best F1 marked.

    Args:
        classes: Name to predictions; those without an object have no line.
    """
    points = _measurable(classes)
    return Curves(
        title="Precision and recall",
        x="recall",
        y="precision",
        lines={name: _thin(one.recall, one.precision) for name, one in points.items()},
        about="One point per threshold; the mark is the best F1.",
        marked={name: _at_best(one, one.recall, one.precision) for name, one in points.items()},
    )


def over_scores(classes: Mapping[str, Scored], score: str) -> Curves:
    """F1 of each class over the threshold; of one class its precision and recall too.

    Args:
        classes: Name to predictions; those without an object have no line.
        score: What the threshold is on, such as "probability".
    """
    points = _measurable(classes)
    lines = {name: _thin(one.scores, one.f1) for name, one in points.items()}
    if len(points) == 1:
        (one,) = points.values()
        lines |= {"precision": _thin(one.scores, one.precision)}
        lines |= {"recall": _thin(one.scores, one.recall)}
    return Curves(
        title="F1 over the threshold",
        x=score,
        y="F1",
        lines=lines,
        about="The mark is the best F1 of these images.",
        marked={name: _at_best(one, one.scores, one.f1) for name, one in points.items()},
    )


def thinned(count: int) -> NDArray[np.intp]:
    """Places of at most `POINTS` of `count` points, the first and the last among them."""
    places: NDArray[np.intp] = np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))
    return places


def _thin(x: Values, y: Values) -> Line:
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))  # nothing kept has no precision
    places = there[thinned(len(there))]
    return x[places], y[places]


def _measurable(classes: Mapping[str, Scored]) -> dict[str, OperatingPoints]:
    return {
        name: operating_points(scored)
        for name, scored in classes.items()
        if scored.objects and len(scored.scores)
    }


def _at_best(points: OperatingPoints, x: Values, y: Values) -> tuple[float, float]:
    best = int(np.argmax(points.f1))
    return float(x[best]), float(y[best])
