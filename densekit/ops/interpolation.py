"""Maps in another size: linearly, and of labels, which cannot be mixed, by the nearest pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Spatial dimensions to torch's word for interpolating linearly along each axis."""


def resize_linear(maps: Tensor, sides: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Maps (B, C, *S) interpolated linearly to other sides, not smoothed where an axis shrinks.

    Args:
        maps: Of a floating type.
        sides: The new S.
        align_corners: Whether the centres of the outermost pixels stay in place, not their edges.
    """
    mode = LINEAR[len(sides)]
    return F.interpolate(maps, tuple(sides), mode=mode, align_corners=align_corners)


def nearest_centres(new: int, old: int) -> Tensor:
    """(new,) index along an axis of the old pixel whose centre is nearest to each new one's.

    Args:
        new: Pixels along the axis afterwards.
        old: Pixels along the axis before.
    """
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)
    return centres.long().clamp(max=old - 1)  # rounding of the ratio


def resize_labels(mask: Tensor, sides: Sequence[int]) -> Tensor:
    """Mask (..., *S) of labels at other sides.

    Args:
        mask: Labels, the axes of S last.
        sides: The new S.
    """
    for axis, side in enumerate(sides, -len(sides)):
        if mask.shape[axis] != side:
            index = nearest_centres(side, mask.shape[axis])
            mask = mask.index_select(axis, index.to(mask.device))
    return mask
