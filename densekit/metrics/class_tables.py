"""Tables and matrices by class that several metrics show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Bars, Matrix
from densekit.metrics.means import Values

BINS = 20
"""Of a histogram."""


def cell(value: float) -> float | None:
    """A number of a table; None for NaN."""
    return None if math.isnan(value) else float(value)


def confusion_matrix(names: Sequence[str], counts: NDArray[Any], unit: str) -> Matrix:
    """The confusion matrix of K classes.

    Args:
        names: K.
        counts: (K, K) by true class (row) and predicted class (column).
        unit: What is counted.
    """
    return Matrix(
        title="Confusion matrix",
        rows=names,
        columns=names,
        counts=counts.astype(np.float64),
        about=f"Numbers of {unit} by annotated class (row) and predicted class (column).",
    )


def distribution(values: Mapping[str, Values], what: str, unit: str) -> list[Bars]:
    """How often each value occurs, one histogram per name.

    Args:
        values: Name to values from 0 to 1; NaN is left out.
        what: What the values are, such as "Dice".
        unit: What has them, such as "images".
    """
    found = []
    for name, of_name in values.items():
        counts, edges = np.histogram(of_name[~np.isnan(of_name)], BINS, (0, 1))
        bars = {f"{left:.2f}": float(n) for left, n in zip(edges[:-1], counts, strict=True)}
        found.append(Bars(f"{what} of {name}", f"number of {unit}", bars))
    return found
