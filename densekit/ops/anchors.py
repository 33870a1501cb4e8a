"""Anchor boxes of feature pyramids, cached by shape.

Shape letters: A anchors of all levels, a anchors of one cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densekit.ops.constants import constant

Grids = tuple[tuple[int, int], ...]
"""Height and width of each level in cells."""


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], rounded: bool) -> Tensor:
    """Returns the anchors of one cell at the origin, (len(ratios) * len(sizes), 4) float32.

    Args:
        sizes: Square roots of the areas, in pixels.
        ratios: Height over width.
        rounded: Round corners to whole pixels, as torchvision does and detectron2 does not.
    """
    size = torch.tensor(sizes, dtype=torch.float32, device="cpu")
    height_ratio = torch.tensor(ratios, dtype=torch.float32, device="cpu").sqrt()
    width = ((1 / height_ratio)[:, None] * size).flatten()
    height = (height_ratio[:, None] * size).flatten()
    anchors = torch.stack([-width, -height, width, height], 1) / 2
    return anchors.round() if rounded else anchors


@constant
def pyramid_anchors(
    grids: Grids,
    strides: Grids,
    sizes: tuple[tuple[float, ...], ...],
    ratios: tuple[float, ...],
    rounded: bool,
    device: torch.device,
    offset: float = 0.0,
) -> Tensor:
    """Returns all anchors, ordered by level, row, column and anchor of the cell.

    Args:
        grids: Height and width of each level.
        strides: Vertical and horizontal stride of each level, in pixels.
        sizes: Anchor sizes of each level.
        ratios: Height over width of the anchors.
        rounded: See `cell_anchors`.
        device: Device of the result.
        offset: Where in its cell the centre of an anchor lies, in strides: 0 is the corner.

    Returns:
        (A, 4) float32. Shared by all callers with these arguments: never write into it.
    """
    levels = []
    for (rows, columns), (stride_y, stride_x), level_sizes in zip(
        grids, strides, sizes, strict=True
    ):
        cell = cell_anchors(level_sizes, ratios, rounded)
        y = (torch.arange(rows, dtype=torch.float32, device="cpu") + offset) * stride_y
        x = (torch.arange(columns, dtype=torch.float32, device="cpu") + offset) * stride_x
        y, x = torch.meshgrid(y, x, indexing="ij")
        shift = torch.stack([x, y, x, y], -1)  # (rows, columns, 4)
        levels.append((shift[:, :, None] + cell).flatten(0, 2))
    return torch.cat(levels).to(device)
