"""The score from which predictions are kept, measured: by the best F1 or by an asked precision.

Shape letters: N scores, U distinct scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values, ratio

MIN_OBJECTS = 20
"""Objects that a threshold is measured on at least: with fewer, each moves recall by over 5 %."""


@dataclass(frozen=True)
class Scored:
    """What was predicted as one class. Predictions that count neither way are left out.

    Attributes:
        scores: (N,) in any order.
        hits: (N,) whether each is right; of a bin of predictions, how many are.
        objects: Number of objects to find.
        counts: (N,) how many predictions each score stands for; None for one each.
    """

    scores: Values
    hits: NDArray[Any]
    objects: int
    counts: NDArray[Any] | None = None


@dataclass(frozen=True)
class OperatingPoints:
    """Precision and recall of the predictions from each score on.

    Attributes:
        scores: (U,) falling; predictions of equal scores are kept or dropped together.
        precision: (U,) 0..1.
        recall: (U,) 0..1, rising; NaN without objects.
        f1: (U,) 0..1.
    """

    scores: Values
    precision: Values
    recall: Values
    f1: Values


def operating_points(scored: Scored) -> OperatingPoints:
    """Every precision and recall that a threshold can give."""
    order = np.argsort(-scored.scores, kind="stable")
    scores = scored.scores[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each run of equal scores
    right = np.cumsum(scored.hits[order], dtype=np.float64)[last]
    counts = np.ones(len(scores)) if scored.counts is None else scored.counts[order]
    kept = np.cumsum(counts, dtype=np.float64)[last]
    objects = np.full(len(last), scored.objects, dtype=np.float64)
    return OperatingPoints(
        scores=scores[last],
        precision=ratio(right, kept),
        recall=ratio(right, objects),
        f1=ratio(2 * right, kept + objects),
    )


def together(parts: list[Scored]) -> Scored:
    """The predictions of several classes as those of one."""
    nothing = np.zeros(0)
    counts = [np.ones(len(p.scores)) if p.counts is None else p.counts for p in parts]
    return Scored(
        scores=np.concatenate([nothing, *(p.scores for p in parts)]),
        hits=np.concatenate([nothing, *(p.hits for p in parts)]),
        objects=sum(p.objects for p in parts),
        counts=np.concatenate([nothing, *counts]),
    )


def best_threshold(points: OperatingPoints, min_precision: float | None = None) -> float | None:
    """The score from which predictions should be kept.

    It lies halfway between the lowest score that is kept and the next one, so that a rounding
    error of another engine does not decide.

    Args:
        points: Of the predictions.
        min_precision: Keep as many as this precision allows, 0..1; None for the best F1.

    Returns:
        None if nothing is right, or the precision is reached nowhere.
    """
    if min_precision is None:
        reached = np.flatnonzero((points.f1 > 0) & (points.f1 == points.f1.max(initial=0)))[:1]
    else:
        reached = np.flatnonzero((points.precision >= min_precision) & (points.recall > 0))[-1:]
    if not len(reached):
        return None
    return float(points.scores[reached[0] : reached[0] + 2].mean())


def measured_thresholds(
    classes: Mapping[str, Scored], by: str, min_precision: float | None = None
) -> dict[str, Any]:
    """The best threshold overall and per class, as `facts` of a metric.

    A class has none of its own, and takes the overall one, with fewer than `MIN_OBJECTS` objects
    or where its predictions reach no threshold (see `best_threshold`). The overall threshold is
    that of the predictions of all classes together.

    Args:
        classes: Name to predictions.
        by: What counts as right, such as "IoU 0.5"; named beside the thresholds.
        min_precision: See `best_threshold`.

    Returns:
        `{"best_thresholds": {"overall": 0.43, "classes": {"cat": 0.51}, "by": "F1 at IoU 0.5"}}`;
        empty if there is no overall one.
    """
    overall = _threshold(together(list(classes.values())), min_precision)
    if overall is None:
        return {}
    own = {name: _threshold(scored, min_precision) for name, scored in classes.items()}
    goal = "F1" if min_precision is None else f"precision {min_precision:g}"
    return {
        "best_thresholds": {
            "overall": overall,
            "classes": {name: value for name, value in own.items() if value is not None},
            "by": f"{goal} at {by}",
        }
    }


def threshold_of_classes(
    facts: Mapping[str, Any], names: Sequence[str], otherwise: float
) -> Values:
    """(K,) threshold of each class.

    Args:
        facts: What `measured_thresholds` returned.
        names: K class names.
        otherwise: Taken if nothing was measured.
    """
    found = facts.get("best_thresholds", {"overall": otherwise, "classes": {}})
    return np.array([found["classes"].get(name, found["overall"]) for name in names], np.float64)


def check_precision(min_precision: float | None, where: str) -> None:
    """Refuses a precision that is none.

    Raises:
        ValueError: It is not in (0, 1].
    """
    if min_precision is not None and not 0 < min_precision <= 1:
        raise ValueError(f"{where}: expected a number in (0, 1] or null, got {min_precision!r}")


def _threshold(scored: Scored, min_precision: float | None) -> float | None:
    if scored.objects < MIN_OBJECTS:
        return None
    return best_threshold(operating_points(scored), min_precision)
