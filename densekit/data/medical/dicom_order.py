"""Slices along their normal: sorted, and refused where one is missing, double or out of line.

N slices; places are LPS millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME_PLACE = 1e-3
"""Slices nearer than this share of the largest distance are at the same place."""

UNEVEN = 0.02
"""Share of the distance by which a slice may be off its place: scanners round positions."""


def in_order(positions: NDArray[Any], normal: NDArray[Any]) -> NDArray[Any]:
    """(N,) indices that sort (N, 3) positions along the normal."""
    return np.argsort(positions @ normal, kind="stable")


def check_even(
    path: Path, names: Sequence[str], positions: NDArray[Any], normal: NDArray[Any]
) -> None:
    """Refuses slices from which no volume can be made without inventing something.

    Args:
        path: Their folder.
        names: N names for the messages.
        positions: (N, 3) in order.
        normal: (3,) unit vector.

    Raises:
        ValueError: Naming the two files between which it happens.
    """
    if len(names) < 2:
        return
    steps = np.diff(positions, axis=0)  # (N - 1, 3)
    gaps = steps @ normal
    double = int(gaps.argmin())
    if gaps[double] <= SAME_PLACE * gaps.max():
        raise ValueError(
            f"{path}: {names[double]} and {names[double + 1]} are at the same place. Remove copies;"
            " several echoes or times in one series are separate volumes: give each a folder."
        )
    usual = float(np.median(gaps))
    off = np.linalg.norm(steps - np.median(steps, axis=0), axis=1)
    worst = int(off.argmax())
    if off[worst] <= UNEVEN * usual:
        return
    between = f"{path}: between {names[worst]} and {names[worst + 1]}"
    missing = round(gaps[worst] / usual) - 1
    if missing > 0 and abs(gaps[worst] - (missing + 1) * usual) <= UNEVEN * gaps[worst]:
        raise ValueError(
            f"{between} {missing} slice(s) are missing: {gaps[worst]:.4g} mm where"
            f" slices are {usual:.4g} mm apart"
        )
    raise ValueError(
        f"{between} the step is {_shown(steps[worst])} mm, elsewhere"
        f" {_shown(np.median(steps, axis=0))}: slices must be even. Resample the"
        " series onto an even grid first."
    )


def _shown(step: NDArray[Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in step]
