"""Resizing: linear for maps, nearest pixel for labels, which cannot be averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Number of spatial dimensions to the mode of linear interpolation in torch."""


def resize_linear(maps: Tensor, sides: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Interpolates maps (B, C, *S) linearly to other sides, without antialiasing.

    Args:
        maps: Floating-point maps.
        sides: The new S.
        align_corners: Whether the centres of the outermost pixels stay in place, not their edges.
    """
    mode = LINEAR[len(sides)]
    return F.interpolate(maps, tuple(sides), mode=mode, align_corners=align_corners)


def nearest_centres(new: int, old: int) -> Tensor:
    """Returns, for each new pixel of an axis, the old pixel with the nearest centre, (new,).

    Args:
        new: New number of pixels along the axis.
        old: Old number of pixels along the axis.
    """
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)
    return centres.long().clamp(max=old - 1)  # rounding of the ratio


def resize_labels(mask: Tensor, sides: Sequence[int]) -> Tensor:
    """Resizes a mask (..., *S) of labels by nearest centre.

    Args:
        mask: Labels, the axes of S last.
        sides: The new S.
    """
    for axis, side in enumerate(sides, -len(sides)):
        if mask.shape[axis] != side:
            index = nearest_centres(side, mask.shape[axis])
            mask = mask.index_select(axis, index.to(mask.device))
    return mask
