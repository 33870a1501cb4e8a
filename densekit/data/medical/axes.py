"""Volumes in one declared orientation, and the way back to the axes of their file.

z, y, x the axes of a volume, slowest first. An orientation such as "RAS" says where x, y and z run
to: right, anterior, superior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit.data.medical.grids import Grid

Axes = tuple[tuple[int, bool], ...]
"""For each axis (z, y, x) of the result the axis it is taken from, and whether it is reversed."""

_ENDS = ("RL", "AP", "SI")


def check_orientation(orientation: str | None, key: str) -> str | None:
    """The orientation in capitals.

    Args:
        orientation: E.g. "RAS"; None takes axes as they are stored.
        key: The argument that says so, for the message.

    Raises:
        ValueError: If it is not one letter of each pair of opposite directions.
    """
    if orientation is None:
        return None
    letters = orientation.upper() if isinstance(orientation, str) else ""
    if len(letters) != 3 or any(sum(end in letters for end in ends) != 1 for ends in _ENDS):
        raise ValueError(
            f"{key}: expected one letter each of R or L, A or P, S or I (RAS, LPS, ...), or null"
            f" for axes as they are stored; got {orientation!r}"
        )
    return letters


def axes_to(grid: Grid, orientation: str | None) -> Axes | None:
    """How the stored axes of a volume are brought to an orientation.

    An oblique axis counts as the direction of the body that it is nearest to.

    Args:
        grid: The stored frame.
        orientation: See `check_orientation`.

    Returns:
        For `turned`; None where axes stay as they are stored.

    Raises:
        ValueError: If the file does not say how its axes lie in the body.
    """
    if orientation is None:
        return None
    if not grid.is_placed:
        raise ValueError(
            f"{grid.path}: expected an orientation to bring to {orientation}, got none (in NIfTI"
            " sform_code and qform_code are 0): give it one, or train with `orientation: null`,"
            " which takes axes as they are stored"
        )
    spaces = need("nibabel", "orientation of a volume").orientations
    wanted = spaces.axcodes2ornt(orientation)
    # (x, y, z): the axis of the result that each stored one becomes, and its sign
    places = spaces.ornt_transform(spaces.io_orientation(grid.affine), wanted)
    axes = [(0, False)] * 3
    for stored, (place, sign) in enumerate(places):
        axes[2 - int(place)] = (2 - stored, sign < 0)
    return tuple(axes)


def back(axes: Axes | None) -> Axes | None:
    """The axes that undo `axes`."""
    if axes is None:
        return None
    order = [axis for axis, _ in axes]
    places = [order.index(axis) for axis in range(len(order))]
    return tuple((place, axes[place][1]) for place in places)


def turned(array: NDArray[Any], axes: Axes | None, first: int = 0) -> NDArray[Any]:
    """An array with its axes turned, no value changed.

    Args:
        array: (..., z, y, x, ...).
        axes: See `axes_to`.
        first: Number of axes before z.
    """
    if axes is None:
        return array
    order = [first + axis for axis, _ in axes]
    order = [*range(first), *order, *range(first + len(order), array.ndim)]
    moved = array.transpose(order)
    # torch takes no negative strides; of an axis of one voxel NumPy would keep them
    reversed_ = tuple(
        first + place
        for place, (_, is_reversed) in enumerate(axes)
        if is_reversed and moved.shape[first + place] > 1
    )
    out: NDArray[Any] = np.ascontiguousarray(np.flip(moved, reversed_))
    return out


def turned_mask(mask: NDArray[Any], axes: Axes | None) -> NDArray[Any]:
    """`turned` of a mask (z, y, x) or (K, z, y, x)."""
    return turned(mask, axes, mask.ndim - 3)


def turned_sides(sides: Sequence[Any], axes: Axes | None) -> tuple[Any, ...]:
    """Sizes or spacings along z, y, x in the order of turned axes."""
    return tuple(sides) if axes is None else tuple(sides[axis] for axis, _ in axes)
