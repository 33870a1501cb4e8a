"""What is unusual among many values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 20
"""Values below which nothing is called unusual."""


def outliers(values: Sequence[float], factor: float) -> list[int]:
    """Positions of values far from the median, on a logarithmic scale.

    Args:
        values: Positive numbers.
        factor: Robust standard deviations (1.4826 times the median deviation) from which a value
            is far; a value within a factor of 2 of the median never is.

    Returns:
        The positions; none among fewer than `FEWEST` values.
    """
    if len(values) < FEWEST:
        return []
    scale = np.log(np.maximum(np.asarray(values, dtype=np.float64), 1e-12))
    away = np.abs(scale - np.median(scale))
    limit = max(np.log(2.0), factor * 1.4826 * float(np.median(away)))
    return [int(place) for place in np.flatnonzero(away > limit)]


def minority(values: Sequence[object], share: float = 0.2) -> list[int]:
    """Positions of values other than the most frequent one, if they are a minority.

    Args:
        values: Anything that can be compared.
        share: Largest share of the others; above it no value is the usual one.
    """
    if not values:
        return []
    usual = max(set(values), key=list(values).count)
    others = [place for place, value in enumerate(values) if value != usual]
    return others if len(others) <= share * len(values) else []
