"""Calibration from binned counts: expected calibration error, reliability diagram.

Shape letters: M bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Curves
from densekit.metrics.means import Values, ratio

ABOUT = (
    "Over each bin of confidence the share of predictions that are right: below the diagonal the"
    " network is too sure of itself. Bins without a prediction are left out."
)


def bins_of(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """The bin 0..count - 1 of each value in 0..1; bins are as wide, closed on their upper side."""
    edges = np.linspace(0, 1, count + 1)[1:-1].astype(values.dtype)
    found: NDArray[np.intp] = np.digitize(values, edges, right=True)
    return found


def binned(confidence: NDArray[Any], right: NDArray[Any], count: int) -> Values:
    """(3, M) counts for `calibration_error`, in the bins of `bins_of`.

    Args:
        confidence: (N,) of the predictions, 0 to 1.
        right: (N,) 1 or true for those that are right.
        count: M.
    """
    place = bins_of(confidence, count)
    rows = (None, right, confidence)
    return np.stack([np.bincount(place, weights, count) for weights in rows]).astype(np.float64)


def calibration_error(counts: Values) -> Values:
    """Expected calibration error (Guo et al. 2017, equation 3).

    Args:
        counts: (..., 3, M): predictions in each bin, how many of them are right, sum of their
            confidence.

    Returns:
        (...): NaN without a prediction.
    """
    number, right, confidence = np.moveaxis(counts, -2, 0)
    return ratio(np.abs(right - confidence).sum(-1), number.sum(-1))


def reliability(lines: Mapping[str, Values], what: str) -> Curves:
    """The reliability diagram.

    Args:
        lines: Name to (3, M) counts, see `calibration_error`.
        what: What is predicted, such as "pixels".
    """
    drawn = {}
    for name, (number, right, confidence) in lines.items():
        there = number > 0
        drawn[name] = (confidence[there] / number[there], right[there] / number[there])
    return Curves(
        title="Reliability",
        x="confidence",
        y=f"share of {what} that are right",
        lines=drawn,
        about=ABOUT,
        diagonal=True,
    )
