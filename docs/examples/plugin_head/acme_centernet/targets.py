"""Heatmap targets: a Gaussian peak at every object, as wide as its box allows.

Shape letters: B images, K classes, T target slots, h w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

OVERLAP = 0.7
"""IoU that a box keeps with the object when its corners are off by the radius."""


def cell_centres(like: Tensor) -> Tensor:
    """Computes x and y of the middle of every cell, in cells: (1, 2, h, w).

    Args:
        like: (..., h, w).
    """
    height, width = like.shape[-2:]
    row, column = (torch.arange(n, device=like.device) + 0.5 for n in (height, width))
    return torch.stack((column.expand(height, width), row[:, None].expand(height, width)))[None]


def radius(sides: Tensor) -> Tensor:
    """Computes the radius of the peak of a box, in the unit of its sides: (...).

    Law and Deng 2018, CornerNet, section 3.2: both corners may move by r along both axes, one way
    or the other, so that IoU >= OVERLAP; the smallest of the three cases counts.

    Args:
        sides: (..., 2) width and height.
    """
    total, area = sides.sum(-1), sides.prod(-1)

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        """The smaller positive root of a r^2 - b r + c = 0."""
        return (b - (b**2 - 4 * a * c).clamp(min=0).sqrt()) / (2 * a)

    shifted = root(1, total, area * (1 - OVERLAP) / (1 + OVERLAP))
    smaller = root(4, 2 * total, area * (1 - OVERLAP))
    larger = root(-4 * OVERLAP, 2 * OVERLAP * total, -area * (1 - OVERLAP)).abs()
    return torch.stack((shifted, smaller, larger)).amin(0)


def gaussians(boxes: Tensor, labels: Tensor, valid: Tensor, like: Tensor) -> Tensor:
    """Renders the heatmap: 1 in the cell of a centre, falling off around it.

    Where peaks overlap, the highest value counts.

    Args:
        boxes: (B, T, 4) xyxy, in cells.
        labels: (B, T).
        valid: (B, T) bool.
        like: (B, K, h, w).

    Returns:
        (B, K, h, w) in 0..1.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    limit = centre.new_tensor(like.shape[:-3:-1]) - 1  # of the last column and row
    middle = torch.minimum(centre.floor(), limit) + 0.5  # (B, T, 2)
    sigma = (2 * radius(boxes[..., 2:] - boxes[..., :2]) + 1) / 6  # (B, T)
    away = cell_centres(like)[:, None] - middle[..., None, None]  # (B, T, 2, h, w)
    peak = torch.exp(-away.square().sum(2) / (2 * sigma[..., None, None] ** 2))  # (B, T, h, w)
    peak = peak * valid[..., None, None]
    index = labels[..., None, None].expand_as(peak)
    return torch.zeros_like(like).scatter_reduce(1, index, peak.to(like.dtype), "amax")
