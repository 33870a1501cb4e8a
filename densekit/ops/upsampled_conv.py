"""Convolution of an upsampled map, without computing the upsampled map.

Shape letters: B images, x input channels, o output channels, S the D sizes of the fine level, n
those of the coarse one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

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


FEW = 1024
"""Positions of all coarse maps below which summing the taps costs more than it saves."""


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
    steps = upsampling_steps(x, sides)
    few = not torch.compiler.is_compiling() and len(x) * math.prod(x.shape[2:]) < FEW
    if steps is None or few:
        upsampled = F.interpolate(x, tuple(sides), mode="nearest")
        return CONV[len(sides)](upsampled, weight, bias, padding=1)
    kernel = doubled_taps(weight, steps)
    return CONV_TRANSPOSE[len(sides)](x, kernel, bias, stride=steps, padding=1)


def upsampling_steps(x: Tensor, sides: Sequence[int]) -> list[int] | None:
    """Returns how often each axis of x (B, C, *n) repeats pixels, 1 or 2; None for odd sides.

    None for the dynamic sides of an export, too: only their ratio at that time is known.
    """
    if any(isinstance(side, torch.SymInt) for side in (*sides, *x.shape[2:])):
        return None
    factors = [side / length for side, length in zip(sides, x.shape[2:], strict=True)]
    if not all(factor in (1, 2) for factor in factors):
        return None
    return [int(factor) for factor in factors]


_TAPS = {1: [[0, 0, 1], [0, 1, 0], [1, 0, 0]], 2: [[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]]}
"""The sums of three taps that make a transposed kernel, by upsampling factor."""


def doubled_taps(weight: Tensor, steps: Sequence[int]) -> Tensor:
    """Returns the kernel of the transposed convolution equal to upsampling and convolving.

    Args:
        weight: (o, x, 3, ...).
        steps: Upsampling factor along each axis, 1 or 2.

    Returns:
        (x, o, 3 or 4, ...).
    """
    # a meta tensor, whose memory is estimated, knows no autocast
    with nullcontext() if weight.is_meta else torch.autocast(weight.device.type, enabled=False):
        sums = weight.new_ones(1, 1)
        for step in steps:  # (3^D, taps of all axes)
            sums = torch.kron(sums, weight.new_tensor(_TAPS[step]))
        taps = weight.transpose(0, 1).flatten(2) @ sums  # (x, o, taps)
    return taps.view(*taps.shape[:2], *(step + 2 for step in steps))
