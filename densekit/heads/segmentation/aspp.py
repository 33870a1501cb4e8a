"""Atrous spatial pyramid pooling, with the layer names that torchvision and smp share.

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
    """A convolution (tensors `0.*`), a norm (`1.*`) and a ReLU."""
    return nn.Sequential(
        make.conv(in_channels, out_channels, kernel_size, dilation=dilation),
        make.normalisation(out_channels),
        nn.ReLU(inplace=True),
    )


def separable(
    make: Layers, in_channels: int, out_channels: int, dilation: int = 1
) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution, without a norm between them."""
    return nn.Sequential(
        make.conv(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        make.conv(in_channels, out_channels, 1),
    )


def separable_norm_relu(
    make: Layers, in_channels: int, out_channels: int, dilation: int = 1
) -> nn.Sequential:
    """A separable convolution (tensors `0.0.*`, `0.1.*`), a norm (`1.*`) and a ReLU."""
    return nn.Sequential(
        separable(make, in_channels, out_channels, dilation),
        make.normalisation(out_channels),
        nn.ReLU(inplace=True),
    )


class Pooling(nn.Sequential):
    """Image-level features: the projected mean of the map, broadcast to every position.

    A batch of one image has a single value per channel, which has no variance; a batch norm then
    uses its running statistics.
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
    """Normalises (B, C, 1, ...); a batch of one image by running statistics, if there are any.

    An instance norm would normalise its single value to zero, so only its affine part is applied.
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
    """Parallel 1x1, dilated 3x3 and image-pooling branches, then a projection.

    Paper: Rethinking Atrous Convolution, section 3.3.

    Args:
        make: Makes the layers.
        in_channels: Channels of the level.
        channels: Channels of each branch and of the output.
        rates: Dilations of the 3x3 convolutions.
        is_separable: Whether the dilated convolutions are depthwise separable (DeepLabV3+).
        dropout: Dropout probability of the output.
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
