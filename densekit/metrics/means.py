"""Means and ratios in which what has no value is left out, not counted as 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def mean(values: Values) -> float:
    """The mean of those that are not NaN; NaN without any."""
    return float(column_means(values.reshape(-1, 1))[0])


def column_means(values: Values) -> Values:
    """Likewise along the first axis, (N, L) to (L,)."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(0), there.sum(0))


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    """Element by element, NaN where the whole is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
