"""The two residual blocks, with torchvision's layer names.

Papers: Deep Residual Learning for Image Recognition, figure 5; Deep Networks with Stochastic Depth,
section 3.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from densekit.backbones.shortcuts import Shortcut, projection
from densekit.layers import Layers, Stride, conv_norm


class Block(nn.Module):
    """Base class of the blocks.

    Attributes:
        expansion: Output channels over the block's nominal width.
        last_norm: Name of the norm that ends the residual branch.
        is_residual: Whether there is a shortcut.
        downsample: Maps the input to the shape of the branch; None if it already has it.
        drop_path: Probability of dropping the residual branch of an image in a training step; kept
            branches are scaled by 1 / (1 - drop_path).
    """

    expansion: ClassVar[int]
    last_norm: ClassVar[str]
    is_residual: bool
    downsample: nn.Module | None
    drop_path: float

    def add_shortcut(self, branch: Tensor, x: Tensor) -> Tensor:
        """Returns the branch plus the (projected) input; a plain block's branch alone."""
        if not self.is_residual:
            return branch
        if self.drop_path and self.training:
            branch = _drop_path(branch, self.drop_path)
        branch += x if self.downsample is None else self.downsample(x)
        return branch


class BasicBlock(Block):
    """Two 3x3 convolutions.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        width: Channels between the convolutions.
        out_channels: Channels of the output.
        stride: Stride of the block, one for all axes or one per axis.
        dilations: Dilations of the first 3x3 convolution and of the following ones. They differ in
            the first block of a stage whose stride became dilation, because its input still has the
            grid of the stage before.
        dilate_second: Whether the second convolution is dilated.
        drop_path: See `Block`.
        shortcut: Makes the shortcut's layers; None for a plain block.
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
        dilate_second: bool = True,
        drop_path: float = 0.0,
        shortcut: Shortcut | None = projection,
    ) -> None:
        super().__init__()
        second = dilations[1] if dilate_second else 1
        self.conv1 = make.conv(in_channels, width, 3, stride=stride, dilation=dilations[0])
        self.bn1 = make.normalisation(width)
        self.conv2 = make.conv(width, out_channels, 3, dilation=second)
        self.bn2 = make.normalisation(out_channels)
        self.is_residual, self.drop_path = shortcut is not None, drop_path
        self.downsample = shortcut(make, in_channels, out_channels, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        return F.relu_(self.add_shortcut(conv_norm(self.conv2, self.bn2, y), x))


class Bottleneck(Block):
    """A 1x1 convolution to the width, a 3x3, and a 1x1 to the output channels.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolution.
        out_channels: Channels of the output.
        stride: Stride of the block.
        dilations: See `BasicBlock`; the only 3x3 convolution has the first one.
        groups: Groups of the 3x3 convolution.
        stride_in_1x1: Whether the stride is in the first 1x1 convolution, as in the paper and in
            MSRA's weights, or in the 3x3.
        drop_path: See `Block`.
        shortcut: See `BasicBlock`.
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
        drop_path: float = 0.0,
        shortcut: Shortcut | None = projection,
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
        self.is_residual, self.drop_path = shortcut is not None, drop_path
        self.downsample = shortcut(make, in_channels, out_channels, stride) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        y = F.relu_(conv_norm(self.conv2, self.bn2, y))
        return F.relu_(self.add_shortcut(conv_norm(self.conv3, self.bn3, y), x))


def _drop_path(branch: Tensor, rate: float) -> Tensor:
    """Drops images of a branch (B, ...) at random; the kept ones are scaled by 1 / (1 - rate)."""
    kept = branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(1 - rate)
    if rate < 1:
        kept.div_(1 - rate)
    return branch * kept
