"""Statistics of the labels: classes, sizes, positions, co-occurrence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from densekit.app.doctor.checks.boxes import is_sound, scale_of
from densekit.app.doctor.checks.classes import images_of, shown_in
from densekit.app.doctor.facts import Part, Study

GRID = 16
"""Cells per side of the map of positions."""
SIDES = (4, 8, 16, 32, 64, 128, 256, 512)
"""Bounds of the histogram of sizes: geometric mean of the sides in the resized image."""
PAIRS = 30
"""Pairs of classes that are listed."""


def statistics(study: Study) -> dict[str, Any]:
    """Everything that a report shows of the labels, by split, in plain values."""
    return {
        name: {
            "images": len(part.examples),
            "image_sizes": _image_sizes(part),
            "objects": _objects(part),
            "class_images": dict(images_of(part).most_common()),
            "box_sides": _sides(study, part),
            "positions": _positions(part),
            "together": _together(part),
        }
        for name, part in study.parts.items()
    }


def _image_sizes(part: Part) -> dict[str, int]:
    """The most frequent sizes, "width x height"."""
    sizes = Counter(
        f"{example.read.width} x {example.read.height}" for example in part.examples if example.read
    )
    return dict(sizes.most_common(10))


def _objects(part: Part) -> dict[str, int]:
    """Number of objects of each class."""
    return dict(
        Counter(
            item.label for example in part.examples for item in example.items or ()
        ).most_common()
    )


def _sides(study: Study, part: Part) -> dict[str, int]:
    """Number of boxes by the geometric mean of their sides in the resized image."""
    names = [
        f"below {SIDES[0]}",
        *(f"{low} to {high}" for low, high in zip(SIDES, SIDES[1:], strict=False)),
    ]
    counts = dict.fromkeys([*names, f"{SIDES[-1]} and more"], 0)
    keys = list(counts)
    for example in part.examples:
        for item in example.items or ():
            if is_sound(item.box) and example.frame is not None:
                x1, y1, x2, y2 = item.box
                side = math.sqrt((x2 - x1) * (y2 - y1)) * scale_of(study, example.frame)
                counts[keys[int(np.searchsorted(SIDES, side, side="right"))]] += 1
    return counts if any(counts.values()) else {}


def _positions(part: Part) -> list[list[int]]:
    """Number of boxes whose centre is in each cell of the image, row by row."""
    cells = np.zeros((GRID, GRID), dtype=np.int64)
    for example in part.examples:
        for item in example.items or ():
            if is_sound(item.box) and example.frame is not None:
                x, y = (item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2
                column, row = (
                    min(GRID - 1, max(0, int(GRID * at / side)))
                    for at, side in ((x, example.frame[1]), (y, example.frame[0]))
                )
                cells[row, column] += 1
    found: list[list[int]] = cells.tolist()
    return found if cells.any() else []


def _together(part: Part) -> Mapping[str, int]:
    """Number of images that show both classes of a pair, for the most frequent pairs."""
    pairs = Counter(
        " + ".join(pair)
        for example in part.examples
        for pair in combinations(sorted(shown_in(part, example)), 2)
    )
    return dict(pairs.most_common(PAIRS))
