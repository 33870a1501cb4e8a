"""The objects of a mask whose values number them.

H and W the mask's size, N its objects, R the runs of an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NumberedObject:
    """The pixels of one value.

    Attributes:
        value: The value.
        box: xyxy around the outer edges of its pixels.
        area: Number of pixels.
        counts: (R,) int64 run lengths down the columns, zeros first, as in COCO.
    """

    value: int
    box: tuple[float, float, float, float]
    area: int
    counts: NDArray[np.int64]


def numbered_objects(ids: NDArray[Any]) -> Iterator[NumberedObject]:
    """Yields the objects of an id map in the order of their values.

    Takes one pass over the pixels, however many objects there are.

    Args:
        ids: (H, W) integers; 0 is the background.
    """
    height, width = ids.shape
    flat = ids.ravel(order="F")
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    ends = np.r_[starts[1:], flat.size]
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    order = order[values[order] != 0]
    sorted_values = values[order]
    firsts = np.flatnonzero(np.r_[True, sorted_values[1:] != sorted_values[:-1]])
    for runs in np.split(order, firsts[: len(order)])[1:]:
        yield _numbered(int(values[runs[0]]), starts[runs], ends[runs], height, width)


def _numbered(
    value: int, starts: NDArray[Any], ends: NDArray[Any], height: int, width: int
) -> NumberedObject:
    """The object of a value from the first pixel of each run, and the first one after it."""
    columns, last_columns = starts // height, (ends - 1) // height
    spans = (
        columns != last_columns
    )  # such a run touches the bottom and, in the next column, the top
    rows = np.where(spans, 0, starts % height)
    last_rows = np.where(spans, height - 1, (ends - 1) % height)
    box = columns.min(), rows.min(), last_columns.max() + 1, last_rows.max() + 1
    bounds = np.empty(2 * len(starts) + 2, dtype=np.int64)
    bounds[0], bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = 0, starts, ends, height * width
    counts = np.diff(bounds)
    x1, y1, x2, y2 = map(float, box)
    return NumberedObject(
        value=value,
        box=(x1, y1, x2, y2),
        area=int((ends - starts).sum()),
        counts=counts[:-1] if counts[-1] == 0 else counts,
    )
