"""Brings the masks of objects into the frames of their boxes, in which a batch holds them.

The memory then depends on the number of objects and not on the size of the image: 12.5 kB per
object, where a plane of an image of 800 x 1216 pixels takes 973 kB. The targets of 28 x 28 bins
that a mask head makes of them overlap those from planes by an IoU of .988 on average for objects of
COCO (`tools/object_masks.py`); bilinear sampling or averages over bins would add .001 to .002.

N objects of an image, M bins per side, H and W the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 112
"""M: four bins for each of the 28 of a mask head's targets (He et al. 2017, Mask R-CNN)."""


def object_masks(planes: NDArray[Any], boxes: NDArray[Any], side: int = SIDE) -> NDArray[Any]:
    """Samples every mask at the centres of its box's bins, each in the pixel that it falls into.

    Args:
        planes: (N, H, W) masks of any values.
        boxes: (N, 4) xyxy, in the image.
        side: M.

    Returns:
        (N, M, M) in the dtype of `planes`.
    """
    count, height, width = planes.shape
    columns = _pixels(boxes[:, 0], boxes[:, 2], side, width)
    rows = _pixels(boxes[:, 1], boxes[:, 3], side, height)
    sampled = np.empty((count, side, side), dtype=planes.dtype)
    for mask, plane, row, column in zip(sampled, planes, rows, columns, strict=True):
        inside = plane[row, column[0] : column[-1] + 1]  # rows first: copies of whole ranges
        np.take(inside, column - column[0], axis=1, out=mask)
    return sampled


def in_image(
    masks: NDArray[Any], boxes: NDArray[Any], size: tuple[int, int]
) -> Iterator[NDArray[Any]]:
    """Yields each mask as a plane (H, W), in which every pixel of the box has its bin's value.

    The inverse of `object_masks`, but for what its bins do not tell.

    Args:
        masks: (N, M, M).
        boxes: (N, 4) xyxy, in the image.
        size: H and W.
    """
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(np.float64), strict=True):
        plane = np.zeros(size, dtype=masks.dtype)
        rows, row_bins = _bins(y1, y2, size[0], len(mask))
        columns, column_bins = _bins(x1, x2, size[1], len(mask))
        plane[rows, columns] = mask[row_bins[:, None], column_bins]
        yield plane


def _bins(low: float, high: float, length: int, side: int) -> tuple[slice, NDArray[np.int64]]:
    """The pixels of an axis whose centres are in a box, and the bin that each lies in."""
    first, last = max(0, math.ceil(low - 0.5)), min(length, math.ceil(high - 0.5))
    shares = (np.arange(first, last) + 0.5 - low) / (high - low)
    bins: NDArray[np.int64] = np.clip(shares * side, 0, side - 1).astype(np.int64)
    return slice(first, max(first, last)), bins


def _pixels(low: NDArray[Any], high: NDArray[Any], side: int, length: int) -> NDArray[np.int64]:
    """(N, M) pixel along an axis of `length` pixels in which each bin's centre lies."""
    centres = (np.arange(side) + 0.5) / side
    start = low.astype(np.float64)[:, None]
    places = start + centres * (high.astype(np.float64)[:, None] - start)
    pixels: NDArray[np.int64] = np.clip(places, 0, length - 1).astype(np.int64)
    return pixels
