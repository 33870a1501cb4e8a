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


def separable_norm_relu(
    make: Layers,
    in_channels: int,
    out_channels: int,
    dilation: int = 1,
    *,
    depthwise_norm: bool = False,
) -> nn.Sequential:
    """A separable convolution (tensors `0.*`), a norm (`1.*`) and a ReLU.

    Args:
        make: Makes the layers.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        dilation: Dilation of the depthwise 3x3 convolution (tensors `0.0.*`).
        depthwise_norm: Whether a norm and a ReLU follow it, before the 1x1 convolution (tensors
            `0.1.*`, with the norm `0.3.*`).
    """
    between: list[nn.Module] = []
    if depthwise_norm:
        between = [make.normalisation(in_channels), nn.ReLU(inplace=True)]
    separable = nn.Sequential(
        make.conv(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        *between,
        make.conv(in_channels, out_channels, 1),
    )
    return nn.Sequential(separable, make.normalisation(out_channels), nn.ReLU(inplace=True))


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
    """Normalises (B, C, *s); a single value per channel by running statistics, if there are any.

    An instance norm would normalise one value per image to zero, so only its affine part is
    applied.
    """
    if x[0, 0].numel() > 1:
        normalised: Tensor = norm(x)
        return normalised
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
        is_separable: Whether the 3x3 convolutions are depthwise separable (DeepLabV3+).
        depthwise_norm: See `separable_norm_relu`.
        project_kernel: Kernel of the projection, 1 or 3.
        dropout: Dropout probability of the output.

    Raises:
        ValueError: The kernel of the projection is neither 1 nor 3.
    """

    def __init__(
        self,
        make: Layers,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        *,
        is_separable: bool = False,
        depthwise_norm: bool = False,
        project_kernel: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if project_kernel not in (1, 3):
            raise ValueError(f"project_kernel: expected 1 or 3, got {project_kernel}")

        def conv3x3(count: int, dilation: int = 1) -> nn.Sequential:
            if is_separable:
                return separable_norm_relu(
                    make, count, channels, dilation, depthwise_norm=depthwise_norm
                )
            return conv_norm_relu(make, count, channels, 3, dilation)

        branches: list[nn.Module] = [conv_norm_relu(make, in_channels, channels, 1)]
        branches += [conv3x3(in_channels, rate) for rate in rates]
        branches.append(Pooling(make, in_channels, channels))
        self.convs = nn.ModuleList(branches)
        width = len(branches) * channels
        joined = conv3x3(width) if project_kernel == 3 else conv_norm_relu(make, width, channels, 1)
        self.project = nn.Sequential(*joined, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, *s) to (B, channels, *s)."""
        y: Tensor = self.project(torch.cat([branch(x) for branch in self.convs], 1))
        return y
