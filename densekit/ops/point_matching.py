"""Assignment of objects to points by position and size (FCOS), batched and in bounded memory.

Shape letters: B images, T target slots, t of one chunk, A points of all levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.ops.boxes import box_area
from densekit.ops.matching import NEGATIVE, POSITIVE, chunks


@dataclass(frozen=True)
class PointRule:
    """When a point belongs to an object (Tian et al., "FCOS", 2019, sections 3.1 and 3.2).

    Attributes:
        radius: A point lies less than this many strides from the object's centre, on either axis.
        reach: A point's object has its farthest side between half of this many strides and this
            many; the finest level has no lower limit and the coarsest no upper one.
    """

    radius: float = 1.5
    reach: float = 8.0


def match_points(
    gt: Tensor, valid: Tensor, points: Tensor, rule: PointRule
) -> tuple[Tensor, Tensor]:
    """Finds the object of each point, the smallest of those that it may belong to.

    Args:
        gt: (B, T, 4) boxes of the objects.
        valid: (B, T) bool, which slots hold an object.
        points: (A, 4) squares around the points, whose sides are the strides.
        rule: Limits.

    Returns:
        The index of each point's object, (B, A) int64 (the first one of equal areas), and the
        label of each point, (B, A) int8: `POSITIVE` or `NEGATIVE`.
    """
    least = points.new_full((gt.shape[0], len(points)), torch.inf)  # (B, A)
    index = torch.zeros_like(least, dtype=torch.int64)
    for chunk in chunks(gt.shape[1], len(points) * 4, gt.shape[0]):
        belongs = _belongs(gt[:, chunk], points, rule) & valid[:, chunk, None]  # (B, t, A)
        area = torch.where(belongs, box_area(gt[:, chunk])[..., None], torch.inf)
        value, position = area.min(1)
        smaller = value < least
        least = torch.where(smaller, value, least)
        index = torch.where(smaller, position + chunk.start, index)
    label = torch.where(least.isfinite(), POSITIVE, NEGATIVE)
    return index, label.to(torch.int8)


def _belongs(gt: Tensor, points: Tensor, rule: PointRule) -> Tensor:
    """Whether each point may belong to each object, (B, t, A)."""
    stride = points[:, 2] - points[:, 0]  # (A,)
    point = 0.5 * (points[:, :2] + points[:, 2:])  # (A, 2)
    near, far = point - gt[..., None, :2], gt[..., None, 2:] - point  # (B, t, A, 2)
    inside = torch.minimum(near, far).amin(-1) > 0
    central = (0.5 * (near - far)).abs().amax(-1) < rule.radius * stride
    longest = torch.maximum(near, far).amax(-1)
    low, high = _limits(stride, rule.reach)
    return inside & central & (longest > low) & (longest < high)


def _limits(stride: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Least and greatest distance of an object's farthest side from each point, (A,)."""
    low = torch.where(stride == stride.amin(), 0.0, stride * reach / 2)
    return low, torch.where(stride == stride.amax(), torch.inf, stride * reach)
