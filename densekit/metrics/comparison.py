"""Paired comparison of two evaluations of the same images.

Both are measured on the same draws of the images, so that what makes an image hard for both does
not count (Efron and Tibshirani 1993, chapter 16).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densekit.metrics.bootstrap import interval, p_value
from densekit.metrics.means import Values
from densekit.metrics.protocols import Draws, HasResamples


@dataclass(frozen=True)
class Difference:
    """A metric of two evaluations.

    Attributes:
        name: Of the metric.
        first: Its value in the first evaluation.
        second: In the second.
        low: Lower end of the 95 % interval of `second - first`.
        high: Upper end.
        p: Two-sided p-value against no difference.
    """

    name: str
    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def change(self) -> float:
        """`second - first`."""
        return self.second - self.first

    @property
    def is_distinguishable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def differences(first: HasResamples, second: HasResamples, draws: Draws) -> list[Difference]:
    """Compares what both metrics measure, the main one first.

    Args:
        first: Computed on the images of the draws.
        second: Likewise, on the same images.
        draws: (R, N), see `densekit.metrics.bootstrap.draws`.
    """
    once = np.ones((1, draws.shape[1]), dtype=draws.dtype)
    values = [metric.resampled(np.concatenate((once, draws))) for metric in (first, second)]
    common = [name for name in values[0] if name in values[1]]
    return [_difference(name, values[0][name], values[1][name]) for name in common]


def _difference(name: str, first: Values, second: Values) -> Difference:
    """Of values whose first one is that of the images themselves."""
    change = (second - first)[1:]
    return Difference(name, float(first[0]), float(second[0]), *interval(change), p_value(change))
