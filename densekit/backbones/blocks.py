"""The two residual blocks; the names of their layers are torchvision's.

Paper: Deep Residual Learning for Image Recognition, figure 5.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from densekit.layers import ConvNorm, Layers, Stride, conv_norm


class Block(nn.Module):
    """What both blocks share.

    Attributes:
        expansion: Output channels over the block's nominal width.
        last_norm: Name of the norm that ends the residual branch.
        downsample: Projects the input where the branch has another shape.
    """

    expansion: ClassVar[int]
    last_norm: ClassVar[str]
    downsample: ConvNorm | None

    def add_shortcut(self, branch: Tensor, x: Tensor) -> Tensor:
        """ReLU of the residual branch plus the block's (projected) input."""
        branch += x if self.downsample is None else self.downsample(x)
        return F.relu_(branch)


class BasicBlock(Block):
    """Two 3x3 convolutions.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        width: Channels between the convolutions.
        out_channels: Channels of the output.
        stride: Stride of the block, one for all axes or one an axis.
        dilations: Of the first 3x3 convolution and of those behind it. They differ in the first
            block of a stage whose stride became dilation, for its input still has the grid of
            the stage before.
    """

    expansion = 1
    last_norm = "bn2"

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: Stride = 1,
        dilations: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.conv1 = make.conv(in_channels, width, 3, stride=stride, dilation=dilations[0])
        self.bn1 = make.normalisation(width)
        self.conv2 = make.conv(width, out_channels, 3, dilation=dilations[1])
        self.bn2 = make.normalisation(out_channels)
        self.downsample = _projection(make, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        return self.add_shortcut(conv_norm(self.conv2, self.bn2, y), x)


class Bottleneck(Block):
    """1x1 to the width, 3x3, 1x1 to the output.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolution.
        out_channels: Channels of the output.
        stride: Stride of the block.
        dilations: See `BasicBlock`; there is one 3x3 convolution, which takes the first.
        groups: Of the 3x3 convolution.
        stride_in_1x1: Whether the first 1x1 convolution carries the stride, as in the paper and in
            weights made by MSRA, or the 3x3.
    """

    expansion = 4
    last_norm = "bn3"

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: Stride = 1,
        dilations: tuple[int, int] = (1, 1),
        groups: int = 1,
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__()
        strides: tuple[Stride, Stride] = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = make.conv(in_channels, width, 1, stride=strides[0])
        self.bn1 = make.normalisation(width)
        self.conv2 = make.conv(
            width, width, 3, stride=strides[1], dilation=dilations[0], groups=groups
        )
        self.bn2 = make.normalisation(width)
        self.conv3 = make.conv(width, out_channels, 1)
        self.bn3 = make.normalisation(out_channels)
        self.downsample = _projection(make, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        y = F.relu_(conv_norm(self.conv2, self.bn2, y))
        return self.add_shortcut(conv_norm(self.conv3, self.bn3, y), x)


def _projection(
    make: Layers, in_channels: int, out_channels: int, stride: Stride
) -> ConvNorm | None:
    steps = {stride} if isinstance(stride, int) else set(stride)
    if steps == {1} and in_channels == out_channels:
        return None
    return make.conv_norm(in_channels, out_channels, 1, stride=stride)
