"""Boxes one by one: without area, outside, thin, repeated.

W, H the size of the image that a box refers to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.checks.outliers import outliers
from densekit.app.doctor.facts import Box, Example, Item, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example

ROUNDING = 1.0
"""Pixels by which a box may leave its image without being reported."""
THIN = 1.0
"""Pixels up to which a side is thin."""
VANISHING = 4.0
"""Geometric mean of the sides, in pixels of the resized image, below which a box is lost: half a
cell of the finest usual level."""
WHOLE = 0.99
"""Share of the image from which a box covers it."""
LONG = 25.0
"""Longer over shorter side from which a box is unusual."""
SAME = 0.98
"""IoU from which two boxes are one."""
MANY = 5.0
"""Robust standard deviations from which a number of objects is unusual."""
APART = 5.0
"""Pixels between a box and its outline, and share of its side, from which they disagree."""

Wrong = Callable[[Item, tuple[int, int]], str]


def _each(study: Study, wrong: Wrong) -> Iterator[Hit]:
    """A hit for every wrong box; `wrong` gets the box and the height and width of its image."""
    for part, example, item in study.objects():
        size = example.frame
        message = "" if size is None else wrong(item, size)
        if message:
            yield of_example(part, example, f"{_called(item)}: {message}", box=item.box)


def _called(item: Item) -> str:
    return item.where if item.label in item.where else f"{item.where} ({item.label})"


def shown(box: Box) -> str:
    """A box as text."""
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"


def is_finite(box: Box) -> bool:
    """Whether all coordinates are numbers."""
    return all(map(math.isfinite, box))


def is_sound(box: Box) -> bool:
    """Whether a box is finite and has an area."""
    return is_finite(box) and box[2] > box[0] and box[3] > box[1]


def is_outside(box: Box, size: tuple[int, int]) -> bool:
    """Whether no part of a box is in its image."""
    return box[2] <= 0 or box[3] <= 0 or box[0] >= size[1] or box[1] >= size[0]


@check(Severity.ERROR)
def box_not_finite(study: Study) -> Iterator[Hit]:
    """A box whose coordinates are NaN, infinite or no numbers."""
    return _each(study, lambda item, _: "" if is_finite(item.box) else shown(item.box))


@check(Severity.ERROR)
def box_inverted(study: Study) -> Iterator[Hit]:
    """A box whose right is left of its left, or whose bottom is above its top."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        x1, y1, x2, y2 = item.box
        return shown(item.box) * (is_finite(item.box) and (x2 < x1 or y2 < y1))

    return _each(study, wrong)


@check(Severity.ERROR)
def box_without_area(study: Study) -> Iterator[Hit]:
    """A box without area."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        x1, y1, x2, y2 = item.box
        flat = (x2 == x1 or y2 == y1) and x2 >= x1 and y2 >= y1
        return shown(item.box) * (is_finite(item.box) and flat)

    return _each(study, wrong)


@check(Severity.ERROR)
def box_outside(study: Study) -> Iterator[Hit]:
    """A box that is not in its image at all."""

    def wrong(item: Item, size: tuple[int, int]) -> str:
        outside = is_sound(item.box) and is_outside(item.box, size)
        return f"{shown(item.box)} in {size[1]} x {size[0]}" * outside

    return _each(study, wrong)


@check(Severity.WARNING)
def box_overhanging(study: Study) -> Iterator[Hit]:
    """A box that leaves its image by more than a pixel."""

    def wrong(item: Item, size: tuple[int, int]) -> str:
        hit = (
            is_sound(item.box)
            and not is_outside(item.box, size)
            and _overhang(item.box, size) > ROUNDING
        )
        return f"{shown(item.box)} in {size[1]} x {size[0]}" * hit

    return _each(study, wrong)


def _overhang(box: Box, size: tuple[int, int]) -> float:
    return max(-box[0], -box[1], box[2] - size[1], box[3] - size[0])


@check(Severity.WARNING)
def box_thin(study: Study) -> Iterator[Hit]:
    """A box with a side of at most one pixel."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        sides = item.box[2] - item.box[0], item.box[3] - item.box[1]
        thin = is_sound(item.box) and min(sides) <= THIN and not item.crowd
        return f"{sides[0]:.3g} x {sides[1]:.3g} pixels" * thin

    return _each(study, wrong)


@check(Severity.NOTE)
def box_vanishes(study: Study) -> Iterator[Hit]:
    """A box so small after resizing that no anchor fits and no cell is inside."""

    def wrong(item: Item, size: tuple[int, int]) -> str:
        if not is_sound(item.box) or item.crowd or item.difficult:
            return ""
        sides = item.box[2] - item.box[0], item.box[3] - item.box[1]
        side = math.sqrt(sides[0] * sides[1]) * scale_of(study, size)
        return f"{side:.2g} pixels in the resized image" * (side < VANISHING)

    return _each(study, wrong)


def scale_of(study: Study, size: tuple[int, int]) -> float:
    """Factor by which the resize rule enlarges an image."""
    if study.min_size is None:
        return 1.0
    scale = study.min_size / min(size)
    return scale if study.max_size is None else min(scale, study.max_size / max(size))


@check(Severity.NOTE)
def box_covers_image(study: Study) -> Iterator[Hit]:
    """A box that covers its whole image."""

    def wrong(item: Item, size: tuple[int, int]) -> str:
        x1, y1, x2, y2 = item.box
        area = (min(x2, size[1]) - max(x1, 0)) * (min(y2, size[0]) - max(y1, 0))
        return "all of the image" * (is_sound(item.box) and area >= WHOLE * size[0] * size[1])

    return _each(study, wrong)


@check(Severity.NOTE)
def box_long(study: Study) -> Iterator[Hit]:
    """A box many times longer than wide."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        sides = sorted((item.box[2] - item.box[0], item.box[3] - item.box[1]))
        long = is_sound(item.box) and sides[0] > THIN and sides[1] > LONG * sides[0]
        return shown(item.box) * (long and not item.crowd)

    return _each(study, wrong)


@check(Severity.WARNING)
def box_repeated(study: Study) -> Iterator[Hit]:
    """An object that is annotated twice: one box, one class."""
    for part, example in study.each():
        for one, other in _same(example):
            if one.label == other.label:
                message = f"{other.where} repeats {one.where}"
                yield of_example(part, example, message, box=other.box)


@check(Severity.WARNING)
def box_of_two_classes(study: Study) -> Iterator[Hit]:
    """One box with two classes."""
    for part, example in study.each():
        for one, other in _same(example):
            if one.label != other.label:
                both = f"{other.where} is {other.label}, {one.where} is {one.label}"
                yield of_example(part, example, both, box=other.box)


def _same(example: Example) -> Iterator[tuple[Item, Item]]:
    """Pairs of objects whose boxes are one."""
    items = [item for item in example.items or () if is_sound(item.box) and not item.crowd]
    if len(items) < 2:
        return
    same = np.triu(iou(np.asarray([item.box for item in items])) >= SAME, 1)
    for one, other in zip(*np.nonzero(same), strict=True):
        yield items[one], items[other]


def iou(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, N) IoU of boxes (N, 4)."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    found: NDArray[np.float64] = common / (area[:, None] + area[None] - common)
    return found


@check(Severity.NOTE)
def many_objects(study: Study) -> Iterator[Hit]:
    """An image with far more objects than the others."""
    rows = [(part, example) for part, example in study.each() if example.items]
    counts = [float(len(example.items or ())) for _, example in rows]
    usual = float(np.median(counts)) if counts else 0.0
    for place in outliers(counts, MANY):
        if counts[place] > usual:
            part, example = rows[place]
            yield of_example(part, example, f"{counts[place]:.0f} objects, usually {usual:.0f}")


@check(Severity.WARNING)
def area_mismatch(study: Study) -> Iterator[Hit]:
    """An annotated area that is negative or larger than the box."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        if item.area is None or not is_sound(item.box) or item.crowd:
            return ""
        most = (item.box[2] - item.box[0] + 1) * (item.box[3] - item.box[1] + 1)
        return f"area {item.area:.6g}, box {most:.6g}" * (not 0 <= item.area <= 1.02 * most)

    return _each(study, wrong)


@check(Severity.WARNING)
def box_off_outline(study: Study) -> Iterator[Hit]:
    """A box that does not enclose its outline."""

    def wrong(item: Item, _: tuple[int, int]) -> str:
        if item.outline is None or not is_sound(item.box) or item.crowd:
            return ""
        side = max(item.box[2] - item.box[0], item.box[3] - item.box[1])
        far = max(abs(a - b) for a, b in zip(item.box, item.outline, strict=True))
        return f"{shown(item.box)}, outline {shown(item.outline)}" * (far > max(APART, 0.1 * side))

    return _each(study, wrong)


CHECKS = (
    box_not_finite,
    box_inverted,
    box_without_area,
    box_outside,
    box_overhanging,
    box_thin,
    box_vanishes,
    box_covers_image,
    box_long,
    box_repeated,
    box_of_two_classes,
    many_objects,
    area_mismatch,
    box_off_outline,
)
