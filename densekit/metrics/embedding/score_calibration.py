"""From a similarity to the probability that two images show the same identity.

A cosine is no probability. Logistic regression makes it one (Platt 1999, "Probabilistic outputs for
support vector machines"), fitted on the other folds, so that no comparison judges itself.

Shape letters: P comparisons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values

BINS = 400
"""Of the similarities, from -1 to 1: a list may hold millions of comparisons."""
FOLDS = 10
"""Where the list has none."""


def same_probability(scores: Values, same: NDArray[np.bool_], fold: NDArray[np.int64]) -> Values:
    """(P,) probability of one identity, each by a regression on the comparisons of other folds.

    It is the probability among comparisons that are mixed as the list mixes them.

    Args:
        scores: (P,) cosines.
        same: (P,) whether each comparison is of one identity.
        fold: (P,) number of the fold; if all are of one, they are dealt into ten.
    """
    if len(np.unique(fold)) < 2:
        fold = np.arange(len(scores)) % FOLDS
    edges = np.linspace(-1, 1, BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    place = np.clip(np.digitize(scores, edges) - 1, 0, BINS - 1)
    out = np.full(len(scores), np.nan)
    for number in np.unique(fold):
        here = fold == number
        true, false = (
            np.bincount(place[~here & of], minlength=BINS).astype(float) for of in (same, ~same)
        )
        if true.any() and false.any():
            slope, offset = _fitted(centres, true, false)
            out[here] = _sigmoid(slope * scores[here] + offset)
    return out


def _fitted(x: Values, true: Values, false: Values) -> tuple[float, float]:
    """Slope and offset of the regression of counts, with Platt's targets."""
    from scipy.optimize import minimize

    high, low = (true.sum() + 1) / (true.sum() + 2), 1 / (false.sum() + 2)
    positive = true * high + false * low
    total = true + false

    def loss(parameters: Values) -> tuple[float, Values]:
        z = parameters[0] * x + parameters[1]
        value = (total * np.logaddexp(0, z) - positive * z).sum() / total.sum()
        slope = (total * _sigmoid(z) - positive) / total.sum()
        return float(value), np.array([(slope * x).sum(), slope.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(found[0]), float(found[1])


def _sigmoid(z: Values) -> Values:
    from scipy.special import expit

    value: Values = expit(z)
    return value
