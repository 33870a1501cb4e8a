"""Stems: the layers of a ResNet before its stages.

Paper: Bag of Tricks for Image Classification, section 4.2 (the deep stem is its ResNet-C).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from densekit.layers import Layers, Stride, max_pool, max_pool_from_start


@dataclass(frozen=True)
class Stem:
    """Convolutions, the first with a stride, optionally followed by a max-pool of stride 2."""

    kernel_size: int
    stride: int
    pool: Callable[..., Tensor] | None = None
    depth: int = 1

    @property
    def reduction(self) -> int:
        """Stride of the stages' input."""
        return self.stride * (2 if self.pool else 1)


STEMS = {
    "imagenet": Stem(kernel_size=7, stride=2, pool=max_pool),  # stages at strides 4, 8, 16, 32
    "caffe": Stem(kernel_size=7, stride=2, pool=max_pool_from_start),  # the same strides
    "deep": Stem(kernel_size=3, stride=2, pool=max_pool, depth=3),  # the same strides
    "half": Stem(kernel_size=3, stride=2),  # 2, 4, 8, 16
    "full": Stem(kernel_size=3, stride=1),  # 1, 2, 4, 8: small images and volumes
}


def stem_convolutions(
    make: Layers, stem: Stem, in_channels: int, out_channels: int, stride: Stride
) -> nn.Module:
    """A stem's convolution; if there are several, a sequence with norm and ReLU between them.

    The tensors of a sequence have timm's names (`0.*`, `1.*`, `3.*`, `4.*`, `6.*`); all but the
    last convolution have half of the output channels.
    """
    layers: list[nn.Module] = []
    for _ in range(stem.depth - 1):
        inner = out_channels // 2
        layers.append(make.conv(in_channels, inner, stem.kernel_size, stride=stride))
        layers += [make.normalisation(inner), nn.ReLU(inplace=True)]
        in_channels, stride = inner, 1
    last = make.conv(in_channels, out_channels, stem.kernel_size, stride=stride)
    return nn.Sequential(*layers, last) if layers else last
