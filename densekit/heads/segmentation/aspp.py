"""Atrous spatial pyramid pooling, with the names of layers that torchvision and smp share.

Shape letters: B images, C channels, s the sizes of a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.layers import Layers

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def conv_norm_relu(
    make: Layers, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1
) -> nn.Sequential:
    """Names `0` and `1`; the ReLU has none to load."""
    return nn.Sequential(
        make.conv(in_channels, out_channels, kernel_size, dilation=dilation),
        make.normalisation(out_channels),
        nn.ReLU(inplace=True),
    )


def separable(
    make: Layers, in_channels: int, out_channels: int, dilation: int = 1
) -> nn.Sequential:
    """A 3x3 convolution of each channel, then a 1x1 convolution; no norm between them."""
    return nn.Sequential(
        make.conv(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        make.conv(in_channels, out_channels, 1),
    )


def separable_norm_relu(
    make: Layers, in_channels: int, out_channels: int, dilation: int = 1
) -> nn.Sequential:
    """Names `0.0`, `0.1` and `1`."""
    return nn.Sequential(
        separable(make, in_channels, out_channels, dilation),
        make.normalisation(out_channels),
        nn.ReLU(inplace=True),
    )


class Pooling(nn.Sequential):
    """The mean of the whole map, projected, everywhere.

    A batch of one image has one value a channel, of which batch statistics are nothing; the stored
    ones stand in for them.
    """

    def __init__(self, make: Layers, in_channels: int, out_channels: int) -> None:
        projected = conv_norm_relu(make, in_channels, out_channels, 1)
        super().__init__(nn.Identity(), *projected)  # torchvision's names: the pooling comes first

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *s) to (B, out_channels, *s)."""
        axes = tuple(range(2, x.ndim))
        y = norm_of_pooled(self[2], self[1](x.mean(axes, keepdim=True)))
        y = F.relu(y)
        return y.expand(-1, -1, *x.shape[2:])


def norm_of_pooled(norm: nn.Module, x: Tensor) -> Tensor:
    """The norm of (B, C, 1, ...): of one image alone by the stored statistics, if there are any.

    An instance norm has one value to look at, of which nothing would be left: its affine is applied
    alone.
    """
    if isinstance(norm, _INSTANCE_NORM):
        shape = (1, -1, *[1] * (x.ndim - 2))
        return x * norm.weight.view(shape) + norm.bias.view(shape)
    if isinstance(norm, _BATCH_NORM) and norm.training and len(x) == 1:
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    y: Tensor = norm(x)
    return y


class ASPP(nn.Module):
    """One 1x1 and several dilated convolutions and a pooling side by side, then a projection.

    Paper: Rethinking Atrous Convolution, section 3.3.

    Args:
        make: Makes the layers.
        in_channels: Channels of the level.
        channels: Channels of each branch and of the result.
        rates: Dilations.
        is_separable: Whether the dilated convolutions are depthwise separable (DeepLabV3+).
        dropout: Of the result, while training.
    """

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        *,
        is_separable: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        branches: list[nn.Module] = [conv_norm_relu(make, in_channels, channels, 1)]
        for rate in rates:
            if is_separable:
                branches.append(separable_norm_relu(make, in_channels, channels, rate))
            else:
                branches.append(conv_norm_relu(make, in_channels, channels, 3, rate))
        branches.append(Pooling(make, in_channels, channels))
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(
            *conv_norm_relu(make, len(branches) * channels, channels, 1), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *s) to (B, channels, *s)."""
        y: Tensor = self.project(torch.cat([branch(x) for branch in self.convs], 1))
        return y
