"""Shortcuts: map the input of a block to the shape of its output.

Paper: Deep Residual Learning for Image Recognition, section 3.3, options A and B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from densekit.layers import Layers, Stride

Shortcut = Callable[[Layers, int, int, Stride], nn.Module | None]
"""Takes layers, input channels, output channels and stride; returns None if the shape is kept."""


class ZeroPadShortcut(nn.Module):
    """Takes every n-th value along each axis and pads channels with zeros (option A).

    Args:
        more_channels: Number of zero channels, half of them before the given ones.
        stride: n of each axis.
    """

    def __init__(self, more_channels: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.before, self.behind = more_channels // 2, more_channels - more_channels // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, *S) to (B, C + more_channels, *S / stride), rounded up."""
        every_nth: Any = (..., *(slice(None, None, step) for step in self.stride))
        x = x[every_nth]  # (B, C, *S / stride)
        return F.pad(x, [0, 0] * len(self.stride) + [self.before, self.behind])


def projection(
    make: Layers, in_channels: int, out_channels: int, stride: Stride
) -> nn.Module | None:
    """A 1x1 convolution with its norm where stride or channels change (option B)."""
    if _keeps_shape(in_channels, out_channels, stride):
        return None
    return make.conv_norm(in_channels, out_channels, 1, stride=stride)


def subsampling(
    make: Layers, in_channels: int, out_channels: int, stride: Stride
) -> nn.Module | None:
    """`ZeroPadShortcut` where stride or channels change (option A)."""
    if _keeps_shape(in_channels, out_channels, stride):
        return None
    steps = (stride,) * make.spatial_dims if isinstance(stride, int) else stride
    return ZeroPadShortcut(out_channels - in_channels, steps)


def _keeps_shape(in_channels: int, out_channels: int, stride: Stride) -> bool:
    """Whether the input itself can be added to the output."""
    steps = {stride} if isinstance(stride, int) else set(stride)
    return steps == {1} and in_channels == out_channels
