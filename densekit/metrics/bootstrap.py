"""Bootstrap: how far a metric would move with other images of the same kind.

Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 6, 13 and 16. What is
drawn are whole groups (the images of a patient, of a subject), because images of one group are
alike; without groups every image is its own.

Shape letters: R draws, N images, G groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values
from densekit.metrics.protocols import Draws

RESAMPLES = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """The two ends of an interval at `LEVEL`."""

    low: float
    high: float


def draws(groups: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """(R, N) how often each image is in each draw.

    A draw takes as many groups as there are, with replacement. The same groups and seed give the
    same draws, which is what a paired comparison needs.

    Args:
        groups: Of each of N images.
        resamples: R.
        seed: Of the generator.
    """
    known = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    member = np.array([known[group] for group in groups], dtype=np.int64)
    count = max(1, len(known))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    return drawn.astype(np.int32)[:, member]


def interval(values: Values) -> Interval:
    """Percentile interval of the (R,) values of the draws; NaN if half of them have no value."""
    measured = values[np.isfinite(values)]
    if 2 * len(measured) <= len(values):
        return Interval(float("nan"), float("nan"))
    tail = 50 * (1 - LEVEL)
    return Interval(*(float(end) for end in np.percentile(measured, (tail, 100 - tail))))


def intervals(resampled: Mapping[str, Values]) -> dict[str, Interval]:
    """Name of the metric to interval, without those that have none."""
    found = {name: interval(values) for name, values in resampled.items()}
    return {name: ends for name, ends in found.items() if np.isfinite(ends).all()}


def p_value(differences: Values) -> float:
    """Two-sided p-value of the (R,) differences of the draws against no difference.

    Twice the smaller share of draws on either side of 0, which counts on both sides; at least
    2 / (R + 1) (Davison and Hinkley 1997, section 4.2.3). NaN without a difference to look at.
    """
    measured: NDArray[np.float64] = differences[np.isfinite(differences)]
    if not len(measured):
        return float("nan")
    sides = min((measured <= 0).sum(), (measured >= 0).sum())
    return float(min(1.0, 2 * (1 + sides) / (1 + len(measured))))
