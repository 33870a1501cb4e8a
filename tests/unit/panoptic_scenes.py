"""Random panoptic images: what is annotated, and what a model might predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.ops.run_lengths import encode
from densekit.types import Result, Truth

NAMES = ["cat", "dog", "sky", "grass", "water"]
THINGS, STUFF = 2, [1, 2, 4]
"""The last three names are stuff, with these values of the mask; 0 and 3 are no segment."""
SIDES = (24, 32)


def truth(seed: int, *, crowds: bool = False) -> Truth:
    """Stripes of stuff and void, with rectangles in front."""
    rng = np.random.default_rng((seed, 0))
    values = np.asarray([0, *STUFF, 3, 255])
    mask = np.repeat(rng.choice(values, 6), 4)[:, None] * np.ones(SIDES[1], dtype=np.int64)
    count = int(rng.integers(0, 6))
    planes = np.stack([rectangle(rng) for _ in range(count)] or [np.zeros(SIDES, bool)])[:count]
    for row in range(count):  # what lies in front is no part of what is behind
        planes[row] &= ~planes[row + 1 :].any(0)
    crowd = rng.random(count) < 0.4 if crowds else np.zeros(count, dtype=bool)
    kept = planes.any((1, 2))
    return Truth(
        image_id=seed,
        size=SIDES,
        masks=encode(planes[kept]) if kept.any() else [],
        labels=rng.integers(0, THINGS, count)[kept],
        crowd=crowd[kept],
        mask=mask.astype(np.uint8),
    )


def prediction(true: Truth, seed: int) -> Result:
    """The truth, with rectangles and a shift that spoil it."""
    rng = np.random.default_rng((seed, 1))
    from densekit.ops.run_lengths import decode

    numbers = np.zeros(SIDES, dtype=np.int64)
    labels = [*range(THINGS, len(NAMES)), *true["labels"].tolist()]
    for position, value in enumerate(STUFF, 1):
        numbers[true["mask"] == value] = position
    for row, plane in enumerate(decode(true["masks"], SIDES)):
        numbers[plane > 0] = 1 + len(STUFF) + row
    numbers = np.roll(numbers, int(rng.integers(0, 3)), axis=1)
    for _ in range(int(rng.integers(0, 3))):
        labels.append(int(rng.integers(0, len(NAMES))))
        numbers[rectangle(rng)] = len(labels)
    if rng.random() < 0.5 and labels:
        labels[int(rng.integers(0, len(labels)))] = int(rng.integers(0, len(NAMES)))
    numbers[rng.random(SIDES) < 0.05] = 0
    return segments(numbers, labels)


def segments(numbers: NDArray[Any], labels: list[int]) -> Result:
    """A result with the segments that have pixels, of stuff one a class."""
    first = {label: i for i, label in reversed(list(enumerate(labels, 1)))}
    for i, label in enumerate(labels, 1):
        if label >= THINGS:
            numbers = np.where(numbers == i, first[label], numbers)
    return {
        "panoptic": (numbers * 7).astype(np.int32),
        "segments": [
            {"id": int(i) * 7, "label": labels[i - 1], "isthing": labels[i - 1] < THINGS}
            for i in np.unique(numbers)
            if i
        ],
    }


def rectangle(rng: np.random.Generator) -> NDArray[np.bool_]:
    plane = np.zeros(SIDES, dtype=bool)
    top, left = (int(rng.integers(0, side - 4)) for side in SIDES)
    plane[top : top + int(rng.integers(2, 14)), left : left + int(rng.integers(2, 14))] = True
    return plane
