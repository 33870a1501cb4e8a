"""Resizes planes of labels by nearest centre, where they are not zero.

A mask of an object is zero in most of its image: only the window around the object is read and
written, several times faster than whole planes.

H, W the size of the planes, h, w the new one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.ops.interpolation import nearest_centres


def resize_planes(planes: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resizes planes (..., H, W) of any dtype to (..., h, w).

    Args:
        planes: Labels.
        size: h and w.
    """
    old = planes.shape[-2:]
    rows, columns = (nearest_centres(*sides).numpy() for sides in zip(size, old, strict=True))
    out = np.zeros((*planes.shape[:-2], *size), dtype=planes.dtype)
    for target, plane in zip(out.reshape(-1, *size), planes.reshape(-1, *old), strict=True):
        top, left, bottom, right = _window(plane)
        first, last = np.searchsorted(rows, (top, bottom))
        start, stop = np.searchsorted(columns, (left, right))
        wide = np.take(plane[top:bottom], columns[start:stop], axis=1)
        target[first:last, start:stop] = wide[rows[first:last] - top]
    return out


def _window(plane: NDArray[Any]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what is not zero."""
    if plane.dtype != np.uint8:
        return 0, 0, *plane.shape
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(plane))
    return y, x, y + height, x + width
