"""Borders of masks and the distances between them.

Shape letters: D spatial dimensions, S the D sizes of a mask, N and M border pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from densekit.metrics.segmentation.mask_pair import Mask


def crop(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """Both masks (*S), cut to the box around what is set in either and one pixel more.

    Where the box reaches the frame of the image there is no pixel more. Masks with nothing set
    become empty.
    """
    either = first | second
    window = []
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        there = np.flatnonzero(either.any(axis=others))
        window.append(slice(max(there[0] - 1, 0), there[-1] + 2) if there.size else slice(0))
    return first[tuple(window)], second[tuple(window)]


def border(mask: Mask, *, beyond: bool) -> Mask:
    """The pixels of a mask that have a neighbour (4 in images, 6 in volumes) outside of it.

    Args:
        mask: (*S).
        beyond: Whether what lies beyond the frame belongs to the mask: False makes the pixels
            at the frame a border.
    """
    padded = np.pad(mask, 1, constant_values=beyond)
    inside = mask.copy()
    middle = [slice(1, -1)] * mask.ndim
    for axis in range(mask.ndim):
        for shifted in (slice(0, -2), slice(2, None)):
            inside &= padded[tuple([*middle[:axis], shifted, *middle[axis + 1 :]])]
    edge: Mask = mask & ~inside
    return edge


def points(mask: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """(N, D) places of the N set pixels of (*S), in the unit of the spacing."""
    return np.argwhere(mask).astype(np.float64) * np.asarray(spacing, dtype=np.float64)


def nearest(
    places: NDArray[np.float64], others: NDArray[np.float64], limit: float = np.inf
) -> NDArray[np.float64]:
    """(N,) distance of each of N places to the nearest of M others.

    Args:
        places: (N, D).
        others: (M, D).
        limit: Distances above it may come out as infinite, which is faster.
    """
    # A tree over the few border pixels is exact, and cheaper than a distance transform of all.
    distance: NDArray[np.float64] = KDTree(others).query(places, distance_upper_bound=limit + 1)[0]
    return distance
