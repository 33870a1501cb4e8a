"""COCO's compressed run lengths of binary masks, from where their pixels change.

Shape letters: N masks, E changes, R runs, H and W the sides of an image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.types import RunLengths

CHARACTERS = 8
"""Most characters of one run, of 5 bits each: 39 bits and the sign."""


def from_ends(
    mask: NDArray[np.int64], place: NDArray[np.int64], count: int, size: tuple[int, int]
) -> list[RunLengths]:
    """Masks as run lengths, from the places at which their pixels change.

    Args:
        mask: (E,) 0..count - 1, ascending: the mask that changes.
        place: (E,) at which pixel, counted down the columns, 0..H W; ascending within a mask. The
            first pixel of a mask changes from 0. Two changes at one place are none.
        count: N.
        size: H and W.
    """
    height, width = size
    pixels = height * width
    key = mask * (pixels + 1) + place
    first = np.flatnonzero(np.diff(key, prepend=-1))
    odd = np.diff(first, append=len(key)) % 2 == 1
    kept = first[odd & (place[first] < pixels)]
    mask, place = mask[kept], place[kept]
    number = np.bincount(mask, minlength=count) + 1  # runs of each mask
    ends = np.cumsum(number)
    last = np.zeros(int(ends[-1]) if count else 0, dtype=np.bool_)
    last[ends - 1] = True
    stops = np.full(len(last), pixels)
    stops[~last] = place
    runs = np.diff(stops, prepend=0)
    runs[(ends - number)[1:]] += pixels  # a mask begins at 0, not where the one before has ended
    texts = _compressed(runs, np.arange(len(runs)) - np.repeat(ends - number, number), ends)
    return [{"size": [height, width], "counts": text} for text in texts]


def _compressed(
    runs: NDArray[np.int64], turn: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[bytes]:
    """The text of each mask: five bits and a sign of more to come in a character, offset by 48.

    From the fourth run on, the difference to the run before last is stored.

    Args:
        runs: (R,) of all masks.
        turn: (R,) number of each within its mask, from 0.
        ends: (N,) where the runs of each mask end.
    """
    values = runs.copy()
    later = np.flatnonzero(turn > 2)
    values[later] -= runs[later - 2]
    rest = values[:, None] >> 5 * np.arange(CHARACTERS)  # (R, characters)
    after = rest >> 5
    more = np.where(rest & 16, after != -1, after != 0)
    codes = ((rest & 31) + np.where(more, 32, 0) + 48).astype(np.uint8)
    used = np.ones_like(more)
    used[:, 1:] = np.logical_and.accumulate(more, axis=1)[:, :-1]
    text = codes[used].tobytes()
    stops = np.cumsum(used.sum(axis=1))[ends - 1].tolist()
    return [text[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
