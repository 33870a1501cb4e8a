"""What verification explains: curves, thresholds, calibration, comparisons that are suspicious.

Shape letters: P comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Cell, Curves, Suspect, Table
from densekit.metrics.class_tables import cell
from densekit.metrics.embedding.roc import Roc, at_false_accept_rate, roc
from densekit.metrics.embedding.score_calibration import same_probability
from densekit.metrics.label_errors import MOST
from densekit.metrics.means import Values
from densekit.metrics.reliability import binned, calibration_error, reliability
from densekit.metrics.score_curves import thinned

SURE = 0.8
"""Probability from which a comparison is suspicious."""
NUM_BINS = 10
SCORE_BINS = 50


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of a list.

    Attributes:
        scores: (P,) cosines.
        same: (P,) whether each is of one identity.
        fold: (P,) its fold.
        images: (P, 2) an image of each side.
    """

    scores: Values
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]
    images: NDArray[np.int64]

    @property
    def is_measurable(self) -> bool:
        """Whether there are comparisons of one identity and of two."""
        return bool(self.same.any() and not self.same.all())


def explained(compared: Comparisons, rates: Sequence[float]) -> list[Analysis]:
    """The analyses of a list with comparisons of one identity and of two.

    Args:
        compared: The list.
        rates: False accept rates whose thresholds are shown.
    """
    if not compared.is_measurable:
        return []
    curve = roc(compared.scores, compared.same)
    probability = same_probability(compared.scores, compared.same, compared.fold)
    counts = _counts(probability, compared.same)
    error = float(calibration_error(counts))
    diagram = reliability({f"ECE {error:.4f}": counts}, "comparisons that are of one identity")
    return [
        _roc(curve),
        _trade_off(curve),
        _scores(compared),
        _thresholds(compared, curve, rates),
        diagram,
    ]


def suspicious(compared: Comparisons) -> list[Suspect]:
    """Comparisons whose similarity contradicts what the list says, most certain first."""
    if not compared.is_measurable:
        return []
    probability = same_probability(compared.scores, compared.same, compared.fold)
    wrong = np.where(compared.same, 1 - probability, probability)
    order = np.argsort(-wrong, kind="stable")  # NaN last
    found = []
    for place in order[: np.count_nonzero(wrong >= SURE)][:MOST]:
        one, other = compared.images[place].tolist()
        said = "the same identity" if compared.same[place] else "another identity"
        reason = f"listed as {said} as image {other}, similarity {compared.scores[place]:.3f}"
        found.append(Suspect(one, reason, float(wrong[place])))
    return found


def _counts(probability: Values, same: NDArray[np.bool_]) -> Values:
    there = ~np.isnan(probability)
    return binned(probability[there], same[there].astype(np.float64), NUM_BINS)


def _roc(curve: Roc) -> Curves:
    true, false = curve.rates
    x, y = _visible(false, true)
    return Curves(
        title="Receiver operating characteristic",
        x="false accept rate, as a power of 10",
        y="true accept rate",
        lines={"comparisons": (np.log10(x), y)},
    )


def _trade_off(curve: Roc) -> Curves:
    true, false = curve.rates
    there = true < 1
    x, y = _visible(false[there], 1 - true[there])
    return Curves(
        title="Detection error trade-off",
        x="false accept rate, as a power of 10",
        y="false reject rate, as a power of 10",
        lines={"comparisons": (np.log10(x), np.log10(y))},
    )


def _visible(x: Values, y: Values) -> tuple[Values, Values]:
    """The points that a logarithmic axis can show, thinned evenly along it."""
    there = np.flatnonzero(x > 0)
    if not len(there):
        return x[:0], y[:0]
    logs = np.log10(x[there])
    wanted = np.linspace(logs[0], logs[-1], len(thinned(len(there))))
    kept = there[np.unique(np.searchsorted(logs, wanted).clip(max=len(there) - 1))]
    return x[kept], y[kept]


def _scores(compared: Comparisons) -> Curves:
    edges = np.linspace(compared.scores.min(), compared.scores.max() + 1e-9, SCORE_BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    shares = (
        np.histogram(compared.scores[of], edges)[0] / of.sum()
        for of in (compared.same, ~compared.same)
    )
    names = ("one identity", "two identities")
    return Curves(
        title="Similarities",
        x="cosine similarity",
        y="share of the comparisons",
        lines={name: (middle, share) for name, share in zip(names, shares, strict=True)},
    )


def _thresholds(compared: Comparisons, curve: Roc, rates: Sequence[float]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for rate in rates:
        accepted, threshold = at_false_accept_rate(curve, rate)
        distance = np.sqrt(max(0.0, 2 - 2 * threshold)) if np.isfinite(threshold) else np.nan
        held = _held_out(compared, rate)
        found = (threshold, distance, accepted, *held)
        rows.append((rate, *(cell(value) if np.isfinite(value) else None for value in found)))
    head = ("false accept rate", "similarity", "distance", "true accept rate")
    return Table(
        "Thresholds",
        (*head, "false accepts of other folds", "true accepts of other folds"),
        rows,
        "The distance is Euclidean, between embeddings of length 1. The last two columns are the"
        " rates of each fold at the threshold of the others: whether a threshold holds.",
    )


def _held_out(compared: Comparisons, rate: float) -> tuple[float, float]:
    """False and true accept rates over folds, at the threshold of all other folds together."""
    folds = np.unique(compared.fold)
    if len(folds) < 2:
        return np.nan, np.nan
    accepted = np.zeros(len(compared.scores), dtype=bool)
    for number in folds:
        here = compared.fold == number
        if not compared.same[~here].any() or compared.same[~here].all():
            return np.nan, np.nan
        others = roc(compared.scores[~here], compared.same[~here])
        threshold = at_false_accept_rate(others, rate)[1]
        if np.isnan(threshold):
            return np.nan, np.nan
        accepted[here] = compared.scores[here] >= threshold
    return float(accepted[~compared.same].mean()), float(accepted[compared.same].mean())
