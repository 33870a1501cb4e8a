"""Receiver operating characteristic: what a threshold on similarity accepts.

P comparisons, C distinct scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values


@dataclass(frozen=True)
class Roc:
    """Accepted comparisons by falling threshold; a score equal to the threshold is accepted.

    Attributes:
        threshold: (C + 1,) infinity, then the distinct scores, falling.
        true_accepts: (C + 1,) comparisons of one identity that are accepted.
        false_accepts: (C + 1,) comparisons of two identities that are accepted.
    """

    threshold: Values
    true_accepts: Values
    false_accepts: Values

    @property
    def genuine(self) -> float:
        """Number of comparisons of one identity."""
        return float(self.true_accepts[-1])

    @property
    def impostors(self) -> float:
        """Number of comparisons of two identities."""
        return float(self.false_accepts[-1])

    @property
    def rates(self) -> tuple[Values, Values]:
        """True and false accept rates, (C + 1,) each."""
        return self.true_accepts / self.genuine, self.false_accepts / self.impostors


def roc(scores: Values, same: NDArray[np.bool_]) -> Roc:
    """The curve of (P,) similarities and whether each comparison is of one identity."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)[: len(falling)]
    true = np.cumsum(same[order])[last]
    return Roc(
        np.concatenate([[np.inf], falling[last]]),
        np.concatenate([[0.0], true]),
        np.concatenate([[0.0], last + 1 - true]),
    )


def area(curve: Roc) -> float:
    """Area under the curve: the chance that a genuine pair scores above an impostor."""
    true, false = curve.rates
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))


def equal_error_rate(curve: Roc) -> float:
    """Where false accepts and false rejects cross, between two thresholds on a straight line."""
    true, false = curve.rates
    gap = false - (1 - true)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(false[before] + share * (false[after] - false[before]))


def at_false_accept_rate(curve: Roc, rate: float) -> tuple[float, float]:
    """The true accept rate, and a threshold, where false accepts are at most `rate`.

    Both are NaN where not even one impostor may be accepted: fewer than 1 / rate of them cannot
    tell. The threshold is infinite if even the best score is that of too many impostors.
    """
    allowed = rate * curve.impostors + 1e-9  # 0.01 x 900 must be 9
    if allowed < 1:
        return math.nan, math.nan
    place = int(np.searchsorted(curve.false_accepts, allowed, side="right")) - 1
    return float(curve.true_accepts[place] / curve.genuine), _below(curve, place)


def fold_accuracies(scores: Values, same: NDArray[np.bool_], fold: NDArray[np.int64]) -> Values:
    """Accuracy of each fold at the threshold that is best for all the others together.

    Huang et al. 2007, "Labeled Faces in the Wild", section 4.

    Args:
        scores: (P,) similarities.
        same: (P,).
        fold: (P,) number of the fold.
    """
    found = []
    for number in np.unique(fold):
        here = fold == number
        threshold = best_threshold(roc(scores[~here], same[~here]))
        found.append(np.mean((scores[here] >= threshold) == same[here]))
    return np.array(found)


def best_threshold(curve: Roc) -> float:
    """The most accurate threshold; of equals the middle one."""
    right = curve.true_accepts + curve.impostors - curve.false_accepts
    best = np.flatnonzero(right == right.max())
    return _below(curve, int(best[len(best) // 2]))


def _below(curve: Roc, place: int) -> float:
    """Half-way from a score, which is accepted, to the next, which is not."""
    following = curve.threshold[min(place + 1, len(curve.threshold) - 1)]
    return float(curve.threshold[place] + following) / 2
