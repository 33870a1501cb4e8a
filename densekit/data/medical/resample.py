"""Volumes at a common spacing, and the way that `restore` takes back.

z, y, x the sizes of a volume, C its channels.

The grid convention is that of `align_corners=False`: the outer faces of the volume stay where they
are and are divided into the new number of voxels. That number is rounded, so the true spacing
differs from the wanted one by at most half a voxel over the whole side; nothing is cut off, nothing
added, and resizing to the old number of voxels lands on the old grid exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from densekit.data.reading.intensity import Rule, scale
from densekit.ops.interpolation import nearest_centres

MOST_VOXELS = 1 << 31
"""Of a resampled volume: 8 GiB a channel."""


def network_frame(
    image: NDArray[Any],
    spacing: Sequence[float],
    intensity: Rule | None,
    target: Sequence[float | None] | None,
) -> NDArray[Any]:
    """A stored volume as the network sees it: the one way for training and for prediction.

    Args:
        image: (z, y, x, C), the stored values.
        spacing: Of the image along z, y, x, in millimetres.
        intensity: See `scale`; its statistics are those of the stored volume.
        target: The common spacing, None for an axis (or for all) that stays as stored.

    Returns:
        (z', y', x', C) float32.
    """
    scaled = scale(image, intensity)
    return resample(scaled, resampled_size(scaled.shape[:-1], spacing, target))


def resampled_size(
    size: Sequence[int], spacing: Sequence[float], target: Sequence[float | None] | None
) -> tuple[int, ...]:
    """Voxels along each axis at the common spacing, at least 1.

    Raises:
        ValueError: If they would be too many for any memory: a spacing is in another unit.
    """
    if target is None:
        return tuple(size)
    found = tuple(
        side if wanted is None else max(1, round(side * step / wanted))
        for side, step, wanted in zip(size, spacing, target, strict=True)
    )
    if math.prod(found) > max(MOST_VOXELS, math.prod(size)):
        raise ValueError(
            f"spacing: expected up to {MOST_VOXELS} voxels, got {found} (z, y, x) from"
            f" {tuple(size)} of {tuple(spacing)} mm at {list(target)} mm: is one in another unit?"
        )
    return found


def resample(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Linear interpolation; where an axis shrinks, over the width of its new voxels (no aliasing).

    Args:
        image: (z, y, x, C) float32.
        size: New z, y, x.

    Returns:
        (*size, C) float32; the image itself where nothing changes.
    """
    old, new = image.shape[:-1], tuple(size)
    if new == old:
        return image
    x = torch.from_numpy(np.require(image, np.float32, ["C", "W"])).movedim(-1, 1)  # (z, C, y, x)
    x = _linear(x, new[1:])  # (z, C, y', x')
    x = x.movedim(0, 1).flatten(2)[None]  # (1, C, z, y' * x')
    x = _linear(x, (new[0], x.shape[-1]))[0]  # (C, z', y' * x')
    out: NDArray[Any] = x.unflatten(-1, new[1:]).movedim(0, -1).contiguous().numpy()
    return out


def resample_mask(mask: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """The voxel whose centre is nearest.

    Args:
        mask: (z, y, x) or (K, z, y, x).
        size: New z, y, x.
    """
    old, new = mask.shape[-3:], tuple(size)
    if new == old:
        return mask
    picks: list[Any] = [nearest_centres(n, o).numpy() for n, o in zip(new, old, strict=True)]
    picked: NDArray[Any] = np.ascontiguousarray(mask[(..., *np.ix_(*picks))])
    return picked


def _linear(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The last two axes to a size; torch has the widening filter in two dimensions only."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
