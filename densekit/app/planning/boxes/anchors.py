"""Which levels, anchor sizes and ranges suit the objects, for each kind of head with anchors.

M objects, A anchors of one cell of every level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.heads import ATSS, FCOS, SSD, YOLOX, FasterRCNN, RetinaNet
from densekit.heads.anchors import AnchorGrid
from densekit.heads.base import Head
from densekit.ops.default_boxes import sides_of_cell

SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Sizes of a level's smallest anchor that are tried, in strides."""
MOST_LEVELS, FEWEST_LEVELS = 5, 3
OCTAVES = ((1.0,), (1.0, 2**0.5), (1.0, 2 ** (1 / 3), 2 ** (2 / 3)))
"""Numbers of sizes per level that are tried where the features are shared by one convolution."""
ENOUGH = 0.7
"""IoU above which an anchor is no better: the box is regressed from there."""
TOLERANCE = 0.03
"""Mean IoU that is given up for a cheaper pyramid: a finer level has four times the cells."""
RATIO_QUANTILES = (0.05, 0.5, 0.95)
REACHES = (8.0, 6.0, 4.0)
"""Upper limits of a level of points that are tried, in strides; the default comes first."""
SMALLEST = 2.0
"""Strides of the finest level that a tenth of the objects may fall below."""
OUTLIERS = 0.005
"""Share of the objects for which alone no level is added."""


Shape = tuple[float, float]
"""Height and width of an anchor in pixels."""
Shapes = Sequence[tuple[int, Sequence[Shape]]]
"""Stride of each level, and the anchors of its cells."""


@dataclass(frozen=True)
class Anchors:
    """Anchors of a pyramid.

    Attributes:
        levels: Names of the levels, finest first.
        strides: Their strides.
        sizes: Anchor sizes of each level in pixels.
        ratios: Height over width.
    """

    levels: tuple[str, ...]
    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]

    @property
    def cost(self) -> float:
        """Number of anchors per pixel."""
        return sum(len(shapes) / stride**2 for stride, shapes in self.shapes)

    @property
    def shapes(self) -> Shapes:
        """The anchors of each level's cells."""
        roots = [math.sqrt(ratio) for ratio in self.ratios]
        return [
            (stride, [(size * root, size / root) for size in sizes for root in roots])
            for stride, sizes in zip(self.strides, self.sizes, strict=True)
        ]


@singledispatch
def planned_anchors(
    head: Head, pyramid: Mapping[str, int], sides: NDArray[Any]
) -> dict[str, Any] | None:
    """Proposes the arguments of a head that decide which objects it reaches.

    Args:
        head: As it is configured.
        pyramid: Level name to stride, of every level that it could read, finest first.
        sides: (M, 2) heights and widths of the objects as the network sees them.

    Returns:
        Plain values for the configuration; None for a head without such arguments.
    """
    return None


@planned_anchors.register
def _(head: RetinaNet, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    best = fitted(runs(pyramid), [steps_of(head.grid)], head.grid.aspect_ratios, sides)
    return {
        "levels": list(best.levels),
        "sizes": [[round(size, 1) for size in of] for of in best.sizes],
        "aspect_ratios": list(best.ratios),
    }


@planned_anchors.register
def _(head: ATSS, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    best = fitted(runs(pyramid), [[1.0]], (1.0,), sides)
    return {"levels": list(best.levels), "sizes": [round(of[0], 1) for of in best.sizes]}


@planned_anchors.register
def _(head: FasterRCNN, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    own = {level: pyramid[level] for level in head.reads}
    best = fitted([own], OCTAVES, head.rpn.grid.aspect_ratios, sides)
    sizes = [[round(size, 1) for size in of] for of in best.sizes]
    return {
        "rpn": {
            "_target_": "densekit.heads.faster_rcnn.RPN",
            "_partial_": True,
            "sizes": sizes,
            "aspect_ratios": list(best.ratios),
        }
    }


@planned_anchors.register
def _(head: FCOS, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    levels = point_levels(pyramid, sides, REACHES[0])
    reach = max(REACHES, key=lambda limit: evenness(list(levels.values()), sides, limit))
    return {
        "levels": list(levels),
        "matching": {"_target_": "densekit.ops.point_matching.PointRule", "reach": reach},
    }


@planned_anchors.register
def _(head: YOLOX, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    return {"levels": list(point_levels(pyramid, sides, REACHES[0]))}


@planned_anchors.register
def _(head: SSD, pyramid: Mapping[str, int], sides: NDArray[Any]) -> dict[str, Any]:
    strides = [stride for stride, _ in head.strides]
    ratios = [[wide / tall for wide, tall in level[2::2]] for level in head.sides]

    def sizes_of(scale: float) -> list[float]:
        return [scale * stride for stride in (*strides, 2 * strides[-1])]

    def overlap(scale: float) -> float:
        sizes = sizes_of(scale)
        cells = map(sides_of_cell, sizes, sizes[1:], ratios)
        return mean_iou(sides, list(zip(strides, cells, strict=True)))

    return {"sizes": [round(size, 1) for size in sizes_of(max(SCALES, key=overlap))]}


def steps_of(grid: AnchorGrid) -> list[float]:
    """A level's sizes in multiples of its smallest."""
    return [size / grid.sizes[0][0] for size in grid.sizes[0]]


def runs(pyramid: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Neighbouring levels that a head could read, from one of the two finest."""
    levels = list(pyramid.items())
    for first in range(min(2, len(levels))):
        for last in range(first + FEWEST_LEVELS, min(first + MOST_LEVELS, len(levels)) + 1):
            yield dict(levels[first:last])


def fitted(
    pyramids: Iterable[dict[str, int]],
    octaves: Sequence[Sequence[float]],
    ratios: Sequence[float],
    sides: NDArray[Any],
) -> Anchors:
    """The cheapest anchors whose mean IoU with the objects is close to the best.

    Anchors of a level are multiples of its stride, so that a cell sees what it is to find.

    Args:
        pyramids: Level name to stride, of each pyramid that is tried.
        octaves: A level's sizes in multiples of its smallest, several choices.
        ratios: The head's own; those of the objects are tried too.
        sides: (M, 2) of the objects.
    """
    tried = []
    shapes = (tuple(ratios), ratios_of(sides, len(ratios)))
    for pyramid, scale, steps, shape in product(pyramids, SCALES, octaves, shapes):
        sizes = tuple(tuple(scale * stride * step for step in steps) for stride in pyramid.values())
        anchors = Anchors(tuple(pyramid), tuple(pyramid.values()), sizes, shape)
        tried.append((mean_iou(sides, anchors.shapes), anchors))
    best = max(value for value, _ in tried)
    least = min(one.cost for value, one in tried if value >= best - TOLERANCE)
    return max((one for one in tried if one[1].cost <= least * 1.01), key=lambda one: one[0])[1]


def ratios_of(sides: NDArray[Any], count: int) -> tuple[float, ...]:
    """Quantiles of height over width of the objects, as many as the head has ratios."""
    if count == 1:
        return (1.0,)
    spread = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, 3), RATIO_QUANTILES)
    ratios = np.quantile(sides[:, 0] / sides[:, 1], spread)
    return tuple(round(float(ratio), 2) for ratio in ratios)


def mean_iou(sides: NDArray[Any], shapes: Shapes) -> float:
    """Mean IoU of objects with their best anchor at the average shift of a grid, at most `ENOUGH`.

    Objects of a rare size count more: each octave by the square root of its number of objects.
    """
    best = np.zeros(len(sides))
    for stride, of_level in shapes:
        for shape in of_level:
            best = np.maximum(best, shifted_iou(sides, np.asarray(shape), stride / 4))
    octave = np.log2(sides.prod(1)).astype(int) // 2
    _, place, counts = np.unique(octave, return_inverse=True, return_counts=True)
    return float(np.average(best.clip(max=ENOUGH), weights=1 / np.sqrt(counts[place])))


def shifted_iou(sides: NDArray[Any], anchor: NDArray[Any], shift: float) -> NDArray[Any]:
    """(M,) IoU of objects (M, 2) with an anchor (2,) whose centre is off by `shift` per axis."""
    limit = np.minimum(np.minimum(sides, anchor), (sides + anchor) / 2 - shift)
    inter = limit.clip(min=0).prod(1)
    iou: NDArray[Any] = inter / (sides.prod(1) + anchor.prod() - inter)
    return iou


def point_levels(pyramid: Mapping[str, int], sides: NDArray[Any], reach: float) -> dict[str, int]:
    """Levels of a head of points: fine enough for the small objects, none without objects."""
    short, longest = np.quantile(sides.min(1), 0.1), np.quantile(sides.max(1), 1 - OUTLIERS)
    names = list(pyramid)
    first = 1 if len(names) > 1 and short >= SMALLEST * pyramid[names[1]] else 0
    last = first + FEWEST_LEVELS
    while (
        last < min(first + MOST_LEVELS, len(names))
        and longest / 2 > reach * pyramid[names[last - 1]]
    ):
        last += 1
    return {name: pyramid[name] for name in names[first:last]}


def evenness(strides: Sequence[int], sides: NDArray[Any], reach: float) -> float:
    """How evenly objects are divided over levels of points: the entropy of their shares."""
    limits = [stride * reach for stride in strides[:-1]]
    counts = np.bincount(np.digitize(sides.max(1) / 2, limits), minlength=len(strides))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
