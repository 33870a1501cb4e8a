"""Masks from the frames of their boxes to run lengths of the image, without drawing them.

Along a column of the image, a mask that is interpolated bilinearly is a chain of straight lines
between the m + 2 rows of its grid. Where it crosses the threshold is computed, so the work grows
with the width of a box and not with its area.

Shape letters: N detections, m bins per side of a mask, H and W the sides of an image, C columns of
pixels, E crossings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from densekit.ops.run_ends import from_ends
from densekit.types import RunLengths

BLOCK = 1 << 15
"""Columns that are interpolated at once."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def paste_masks(
    masks: Floats, boxes: Floats, size: tuple[int, int], threshold: float = 0.5
) -> list[RunLengths]:
    """The pixels of an image whose probability exceeds the threshold, of each detection.

    They are those of torchvision's `paste_masks_in_image`: a frame of zeros around the mask, the
    box wider by it and truncated to whole pixels, bilinear interpolation.

    Args:
        masks: (N, m, m) probabilities in the frame of each box.
        boxes: (N, 4) xyxy in the image; parts outside are cut off.
        size: H and W.
        threshold: Probability, 0..1, that a pixel has to exceed.
    """
    count, bins = len(masks), masks.shape[-1] + 2
    frames = _frames(boxes, bins)
    grids = np.pad(masks.astype(np.float32, copy=False), ((0, 0), (1, 1), (1, 1)))
    grids = np.ascontiguousarray(grids.transpose(0, 2, 1))  # (N, x, y)
    found = [
        _crossings(grids, frames, mask, x, size, threshold) for mask, x in _columns(frames, size[1])
    ]
    nothing = np.zeros(0, dtype=np.int64)
    mask, place = (np.concatenate(parts) for parts in zip((nothing,) * 2, *found, strict=True))
    return from_ends(mask, place, count, size)


def _frames(boxes: Floats, bins: int) -> Ints:
    """(N, 4) first and last pixels that the masks with their frames of zeros cover."""
    low, high = boxes[:, :2], boxes[:, 2:]
    centre = (low + high) * np.float32(0.5)
    half = (high - low) * np.float32(0.5) * np.float32(bins / (bins - 2))
    return np.concatenate((centre - half, centre + half), axis=1).astype(np.int64)


def _columns(frames: Ints, width: int) -> Iterator[tuple[Ints, Ints]]:
    """Detection and x (C,) of every column of pixels inside the image, in blocks."""
    first = frames[:, 0].clip(0, width)
    number = (frames[:, 2] + 1).clip(first, width) - first
    ends = np.cumsum(number)
    for start in range(0, int(ends[-1]) if len(ends) else 0, BLOCK):
        column = np.arange(start, min(start + BLOCK, ends[-1]))
        mask = np.searchsorted(ends, column, side="right")
        yield mask, column - (ends - number - first)[mask]


def _crossings(
    grids: Floats, frames: Ints, mask: Ints, x: Ints, size: tuple[int, int], threshold: float
) -> tuple[Ints, Ints]:
    """Detection and place, down the columns of the image, of every change of pixels (E,)."""
    height, bins = size[0], grids.shape[1]
    left, top, right, bottom = frames[mask].T
    at = _source(x - left, right - left + 1, bins)
    low = at.astype(np.int64)
    share = (at - low)[:, None]
    high = np.minimum(low + 1, bins - 1)
    values = grids[mask, low] * (1 - share) + grids[mask, high] * share  # (C, bins)
    above = values > threshold
    column, row = np.nonzero(above[:, 1:] != above[:, :-1])
    top, bottom = top[column], bottom[column]
    ends = values[column, row], values[column, row + 1]
    pixel = _first_beyond(row, ends, bottom - top + 1, bins, threshold)
    y = (top + pixel).clip(top.clip(0, height), (bottom + 1).clip(0, height))
    return mask[column], x[column] * height + y


def _first_beyond(
    row: Ints, ends: tuple[Floats, Floats], length: Ints, bins: int, threshold: float
) -> Ints:
    """(E,) the first pixel of a frame of `length` that lies beyond a crossing.

    Args:
        row: (E,) of the grid, above each crossing.
        ends: The values (E,) in this row and the next, on different sides of the threshold.
        length: (E,) pixels that the grid covers.
        bins: Rows of the grid.
        threshold: See `paste_masks`.
    """
    before, after = ends
    rising = after > before
    crossing = row + (threshold - before) / (after - before.astype(np.float64))
    exact = (crossing + 0.5) * (length / bins) - 0.5
    # A pixel on the threshold does not exceed it.
    pixel = np.where(rising, np.floor(exact) + 1, np.ceil(exact)).astype(np.int64)

    def is_beyond(pixel: Ints) -> NDArray[np.bool_]:
        share = (_source(pixel, length, bins) - row.astype(np.float32)).clip(0, 1)
        beyond: NDArray[np.bool_] = (before * (1 - share) + after * share > threshold) == rising
        return beyond

    # Where float32, in which masks are interpolated, rounds to the other side.
    late = is_beyond(pixel - 1)
    return np.where(late, pixel - 1, np.where(is_beyond(pixel), pixel, pixel + 1))


def _source(pixel: Ints, length: Ints, bins: int) -> Floats:
    """Where the centres of pixels lie in a grid of `bins`, as torch's interpolation has it."""
    scale = np.float32(bins) / length.astype(np.float32)
    return (scale * (pixel.astype(np.float32) + np.float32(0.5)) - np.float32(0.5)).clip(
        0, bins - 1
    )
