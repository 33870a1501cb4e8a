"""Boundary loss: penalises wrong pixels by their distance to the contour.

B images, K classes (without the background if it is left out), S the D sizes, P pixels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from densekit.losses.targets import (
    counted,
    exclusive,
    flatten,
    full_precision,
    members,
    probabilities,
    recomputed,
)
from densekit.ops.dist import global_count


class Boundary(nn.Module):
    """Mean of the probability times the signed distance to the contour of the class.

    Kervadec et al. 2019, "Boundary loss for highly unbalanced segmentation", equation 5. Distances
    are negative inside, so the loss may fall below 0. It does not make a model find a class on its
    own: use it with a small weight beside a region loss (`Dice`, `GeneralisedDice`). The mean is
    over the counted pixels and classes of all processes.

    The distances are computed on the CPU in every step: some 30 ms per class for 512x512 pixels,
    0.3 s for 64x128x128 voxels.

    Args:
        include_background: Whether class 0 of a multi-class mask has a term.
        spacing: Distance of neighbouring samples along each axis; the default is 1.
    """

    def __init__(
        self, include_background: bool = False, spacing: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.spacing = None if spacing is None else tuple(float(side) for side in spacing)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss, in the unit of the spacing.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.

        Raises:
            ValueError: `spacing` has not one value per axis.
        """
        sides = tuple(logits.shape[2:])
        if self.spacing is not None and len(self.spacing) != len(sides):
            raise ValueError(
                f"Boundary.spacing: expected one value per axis ({len(sides)}), got"
                f" {len(self.spacing)}"
            )
        logits, mask = flatten(logits, mask)
        first = 1 if exclusive(logits, mask) and not self.include_background else 0
        inside = members(logits, mask)[:, first:]  # (B, K, P)
        valid = counted(mask).expand_as(inside)
        # It reads the mask on the host, which cannot be compiled.
        distance: Tensor = torch.compiler.disable(_distances)(
            inside.unflatten(2, sides), valid.unflatten(2, sides), self.spacing
        )
        distance = distance.flatten(2).to(full_precision(logits).dtype)

        def weighted(logits: Tensor, mask: Tensor) -> Tensor:
            return (probabilities(logits, mask)[:, first:] * distance).sum()

        total = recomputed(weighted, logits, mask)
        return total / global_count(valid.sum())


def _distances(inside: Tensor, counted: Tensor, spacing: tuple[float, ...] | None) -> Tensor:
    """Signed distances (B, K, *S) float32 on the device of the masks, both (B, K, *S) bool."""
    pairs = zip(inside.flatten(0, 1).cpu(), counted.flatten(0, 1).cpu(), strict=True)
    spacing = spacing or (1.0,) * (inside.ndim - 2)
    maps = [signed_distance(one.numpy(), valid.numpy(), spacing) for one, valid in pairs]
    return torch.from_numpy(np.stack(maps)).view(inside.shape).to(inside.device)


def signed_distance(
    inside: NDArray[Any], counted: NDArray[Any], spacing: tuple[float, ...]
) -> NDArray[Any]:
    """Returns the distance to the contour, negative inside, as the authors compute it.

    Outside it is the distance to the nearest pixel inside, so 1 next to the contour; inside it is
    one less than the distance to the nearest pixel outside, so 0 next to it. Ignored pixels are on
    neither side and make no contour. Without a contour (all inside or none) it is 0 everywhere.

    Args:
        inside: (*S) bool.
        counted: (*S) bool, false where ignored.
        spacing: Distance of neighbouring samples along each axis.

    Returns:
        (*S) float32.
    """
    outside = counted & ~inside
    result: NDArray[Any] = np.zeros(inside.shape, dtype=np.float32)
    if inside.any() and outside.any():
        result[outside] = distance_transform_edt(~inside, sampling=spacing)[outside]
        depth = distance_transform_edt(~outside, sampling=spacing)[inside]
        result[inside] = min(spacing) - depth
    return result
