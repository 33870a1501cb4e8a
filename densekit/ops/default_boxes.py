"""Default boxes of SSD (Liu et al. 2016, section 2.2), in pixels and cached by shape.

Shape letters: A boxes of all levels, a boxes of one cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from densekit.ops.anchors import Grids
from densekit.ops.constants import constant

Sides = tuple[tuple[float, float], ...]
"""Width and height of each box of a cell, in pixels."""


def published_sizes(levels: int, side: float) -> list[float]:
    """Returns the sizes of the authors' code for images of this side, one more than levels.

    A tenth of the side on the finest level; from the next on a fifth to nine tenths in equal steps
    of whole percents. The last one only bounds the extra box of the coarsest level.

    Args:
        levels: Number of levels.
        side: In pixels; theirs are 300 and 512.
    """
    step = (90 - 20) // max(1, levels - 2)
    return [side * percent / 100 for percent in (10, *(20 + step * k for k in range(levels)))]


def published_ratios(levels: int) -> list[list[float]]:
    """Returns the aspect ratios of each level beside 1: 2, and 3 on all but the outer three."""
    return [[2.0, 3.0] if 0 < k < levels - 2 else [2.0] for k in range(levels)]


def sides_of_cell(size: float, following: float, ratios: Sequence[float]) -> Sides:
    """Returns the sides of a cell's boxes.

    A square of this size, one between it and the next level's (their geometric mean), and for each
    ratio a wide and a tall box of the area of the first.

    Args:
        size: Of the level, in pixels.
        following: Size of the next level.
        ratios: The longer side over the shorter one.
    """
    between = math.sqrt(size * following)
    sides = [(size, size), (between, between)]
    for ratio in ratios:
        longer, shorter = size * math.sqrt(ratio), size / math.sqrt(ratio)
        sides += [(longer, shorter), (shorter, longer)]
    return tuple(sides)


@constant
def default_boxes(
    grids: Grids, strides: Grids, sides: tuple[Sides, ...], device: torch.device
) -> Tensor:
    """Returns all boxes around the centres of the cells, by level, row, column and box of the cell.

    Args:
        grids: Height and width of each level in cells.
        strides: Vertical and horizontal stride of each level, in pixels.
        sides: Of each level's boxes.
        device: Device of the result.

    Returns:
        (A, 4) float32. Shared by all callers with these arguments: never write into it.
    """
    levels = []
    for (rows, columns), (stride_y, stride_x), pairs in zip(grids, strides, sides, strict=True):
        half = torch.tensor(pairs, dtype=torch.float32, device="cpu") / 2  # (a, 2)
        y = (torch.arange(rows, dtype=torch.float32, device="cpu") + 0.5) * stride_y
        x = (torch.arange(columns, dtype=torch.float32, device="cpu") + 0.5) * stride_x
        y, x = torch.meshgrid(y, x, indexing="ij")
        centre = torch.stack([x, y], -1)[:, :, None]  # (rows, columns, 1, 2)
        levels.append(torch.cat([centre - half, centre + half], -1).flatten(0, 2))
    return torch.cat(levels).to(device)
