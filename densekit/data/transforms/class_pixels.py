"""Draws a random pixel of a random class, from masks of any size.

S the D sizes of the mask, K labels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX

_PART = 1 << 18
"""Pixels counted at a time, so that they fit the cache and of a mapped file only these are read."""


def draw_class_pixel(
    mask: NDArray[Any], spatial_dims: int, rng: np.random.Generator, *, skip_background: bool
) -> tuple[int, ...] | None:
    """Draws a class uniformly from those present, then a pixel of it uniformly.

    All pixels are counted, so that even the smallest class is found: 50 million voxels take 0.1 s.

    Args:
        mask: (*S) uint8 classes, or (K, *S) labels of 0 and 1; 255 is ignored.
        spatial_dims: D.
        rng: Generator of both draws.
        skip_background: Whether class 0 is never drawn; labels have no background.

    Returns:
        The D indices, or None if no class is present.
    """
    sides = mask.shape[-spatial_dims:]
    if mask.ndim > spatial_dims:
        planes, value = mask.reshape(len(mask), -1), 1
        counts = np.stack([_label_counts(plane) for plane in planes])  # (K, parts)
    else:
        planes, value = mask.reshape(1, -1), None
        counts = _class_counts(planes[0])  # (256, parts)
        counts[IGNORE_INDEX] = 0
        counts[0] *= not skip_background
    present = np.flatnonzero(counts.any(axis=1))
    if not len(present):
        return None
    drawn = int(rng.choice(present))
    plane = planes[drawn if value else 0]
    ends = counts[drawn].cumsum()
    rank = int(rng.integers(ends[-1]))
    part = int(np.searchsorted(ends, rank, side="right"))
    among = np.flatnonzero(plane[part * _PART : (part + 1) * _PART] == (value or drawn))
    flat = part * _PART + among[rank - (ends[part] - counts[drawn, part])]
    return tuple(int(index) for index in np.unravel_index(flat, sides))


def _class_counts(plane: NDArray[Any]) -> NDArray[Any]:
    """(256, parts) number of pixels of every class in every part of a flat mask."""
    parts = (np.asarray(plane[i : i + _PART]) for i in range(0, len(plane), _PART))
    # NumPy's bincount first converts to 64 bits and takes four times as long.
    counts = [cv2.calcHist([part], [0], None, [256], [0, 256]).ravel() for part in parts]
    return np.stack(counts, axis=1).astype(np.int64)


def _label_counts(plane: NDArray[Any]) -> NDArray[Any]:
    """(parts,) number of pixels with the label in every part of a flat plane."""
    starts = range(0, len(plane), _PART)
    return np.asarray([np.count_nonzero(plane[i : i + _PART] == 1) for i in starts])
