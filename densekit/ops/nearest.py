"""Maps of labels in another size: labels cannot be mixed, each new pixel takes the nearest one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
