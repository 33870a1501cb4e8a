"""Convolution of an upsampled map, without computing the upsampled map.

Shape letters: B images, x input channels, o output channels, S the D sizes of the fine level, n
those of the coarse one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
"""Convolution by the number of spatial dimensions."""
CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def upsampled_conv(
    x: Tensor, weight: Tensor, sides: Sequence[int], bias: Tensor | None = None
) -> Tensor:
    """Convolves `nearest(x)` with 3 taps per axis, padded to keep the size.

    Upsampling by two makes equal neighbours, so two of three taps per axis see the same value.
    Their weights are summed once, and the convolution becomes a transposed one of the coarse map:
    2 products per axis and pixel instead of 3 (4 instead of 9 in 2-D, 8 instead of 27 in 3-D), and
    no upsampled map is written, read and kept for backward.

    Args:
        x: (B, x, *n).
        weight: (o, x, 3, ...).
        sides: S.
        bias: (o,).

    Returns:
        (B, o, *S).
    """
    dims = len(sides)
    factors = [side / length for side, length in zip(sides, x.shape[2:], strict=True)]
    if not all(factor in (1, 2) for factor in factors):  # odd sides
        return CONV[dims](F.interpolate(x, tuple(sides), mode="nearest"), weight, bias, padding=1)
    steps = [int(factor) for factor in factors]
    return CONV_TRANSPOSE[dims](x, doubled_taps(weight, steps), bias, stride=steps, padding=1)


def doubled_taps(weight: Tensor, steps: Sequence[int]) -> Tensor:
    """Returns the kernel of the transposed convolution equal to upsampling and convolving.

    Args:
        weight: (o, x, 3, ...).
        steps: Upsampling factor along each axis, 1 or 2.

    Returns:
        (x, o, 3 or 4, ...).
    """
    axes = range(2, weight.ndim)
    kernel = weight.transpose(0, 1).flip(tuple(axes))
    for axis, step in zip(axes, steps, strict=True):
        if step == 2:
            zeros = torch.zeros_like(kernel.narrow(axis, 0, 1))
            kernel = torch.cat([kernel, zeros], axis) + torch.cat([zeros, kernel], axis)
    return kernel
