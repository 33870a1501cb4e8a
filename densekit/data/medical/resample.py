"""Resamples volumes to a common spacing, in a way that `restore` can undo.

z, y, x the sizes of a volume, C its channels.

The convention is that of `align_corners=False`: the outer faces of the volume stay fixed, and the
space between is divided into the new number of voxels. That number is rounded, so that the true
spacing differs from the requested one by at most half a voxel over the whole side. Nothing is
cropped or padded, and resizing to the old number of voxels restores the old grid exactly.
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
"""Largest size of a resampled volume: 8 GiB per channel."""


def network_frame(
    image: NDArray[Any],
    spacing: Sequence[float],
    intensity: Rule | None,
    target: Sequence[float | None] | None,
) -> NDArray[Any]:
    """Scales and resamples a stored volume, alike for training and prediction.

    Args:
        image: (z, y, x, C), the stored values.
        spacing: Spacing of the image along z, y, x, in millimetres.
        intensity: See `scale`; its statistics are those of the stored volume.
        target: The common spacing; None, or None for an axis, keeps it as stored.

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
        ValueError: If there would be too many voxels, because a spacing is in another unit.
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
            f" {tuple(size)} of {tuple(spacing)} mm at {list(target)} mm; is one in another unit?"
        )
    return found


def resample(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Resizes an image by linear interpolation, with antialiasing along axes that shrink.

    Args:
        image: (z, y, x, C) float32.
        size: New z, y, x.

    Returns:
        (*size, C) float32; the image itself if the size is the same.
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
    """Resizes a mask by nearest-neighbour interpolation.

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
    """Resizes the last two axes; torch's antialiasing exists in two dimensions only."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
