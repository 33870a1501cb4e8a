"""Turns volumes into one declared orientation, and back to the axes of their file.

z, y, x the axes of a volume, slowest first. An orientation such as "RAS" names the directions in
which x, y and z increase: right, anterior, superior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit.data.medical.grids import Grid

Axes = tuple[tuple[int, bool], ...]
"""For each axis (z, y, x) of the result its source axis, and whether it is reversed."""

_ENDS = ("RL", "AP", "SI")


def check_orientation(orientation: str | None, key: str) -> str | None:
    """Checks an orientation and returns it in capitals.

    Args:
        orientation: E.g. "RAS"; None keeps the axes as stored.
        key: The argument that gives it, for the message.

    Raises:
        ValueError: If it is not one letter of each pair of opposite directions.
    """
    if orientation is None:
        return None
    letters = orientation.upper() if isinstance(orientation, str) else ""
    if len(letters) != 3 or any(sum(end in letters for end in ends) != 1 for ends in _ENDS):
        raise ValueError(
            f"{key}: expected one letter each of R or L, A or P, S or I (RAS, LPS, ...), or null"
            f" for axes as stored, got {orientation!r}"
        )
    return letters


def axes_to(grid: Grid, orientation: str | None) -> Axes | None:
    """The permutation and reversal that turn the stored axes of a volume to an orientation.

    An oblique axis counts as the nearest direction of the body.

    Args:
        grid: The stored grid.
        orientation: See `check_orientation`.

    Returns:
        The axes for `turned`; None to keep them as stored.

    Raises:
        ValueError: If the file does not state an orientation.
    """
    if orientation is None:
        return None
    if not grid.is_placed:
        raise ValueError(
            f"{grid.path}: expected an orientation, to turn it to {orientation}, got none (in NIfTI"
            " sform_code and qform_code are 0); give it one, or train with `orientation: null`,"
            " which keeps the axes as stored"
        )
    spaces = need("nibabel", "orientation of a volume").orientations
    wanted = spaces.axcodes2ornt(orientation)
    # (x, y, z): the axis of the result that each stored axis becomes, and its sign
    targets = spaces.ornt_transform(spaces.io_orientation(grid.affine), wanted)
    axes = [(0, False)] * 3
    for stored, (target, sign) in enumerate(targets):
        axes[2 - int(target)] = (2 - stored, sign < 0)
    return tuple(axes)


def back(axes: Axes | None) -> Axes | None:
    """The inverse of `axes`."""
    if axes is None:
        return None
    order = [axis for axis, _ in axes]
    inverse = [order.index(axis) for axis in range(len(order))]
    return tuple((axis, axes[axis][1]) for axis in inverse)


def turned(array: NDArray[Any], axes: Axes | None, first: int = 0) -> NDArray[Any]:
    """Permutes and reverses the axes of an array without changing a value.

    Args:
        array: (..., z, y, x, ...).
        axes: See `axes_to`.
        first: Number of axes before z.
    """
    # torch refuses negative strides
    return array if axes is None else np.ascontiguousarray(turned_view(array, axes, first))


def turned_view(array: NDArray[Any], axes: Axes | None, first: int = 0) -> NDArray[Any]:
    """`turned` without a copy: what is written to the result is written to the array."""
    if axes is None:
        return array
    order = [first + axis for axis, _ in axes]
    moved = array.transpose([*range(first), *order, *range(first + len(order), array.ndim)])
    # NumPy would keep the negative stride of an axis of one voxel in a contiguous copy.
    reversed_ = tuple(
        first + axis
        for axis, (_, is_reversed) in enumerate(axes)
        if is_reversed and moved.shape[first + axis] > 1
    )
    view: NDArray[Any] = np.flip(moved, reversed_)
    return view


def turned_mask(mask: NDArray[Any], axes: Axes | None) -> NDArray[Any]:
    """`turned` for a mask (z, y, x) or (K, z, y, x)."""
    return turned(mask, axes, mask.ndim - 3)


def turned_sides(sides: Sequence[Any], axes: Axes | None) -> tuple[Any, ...]:
    """Sizes or spacings along z, y, x in the order of the turned axes."""
    return tuple(sides) if axes is None else tuple(sides[axis] for axis, _ in axes)
