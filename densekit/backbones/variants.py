"""ResNets by their usual names; each takes the other settings of `ResNet`."""

from __future__ import annotations

from typing import Any

from densekit.backbones.resnet import ResNet


def resnet18(**settings: Any) -> ResNet:
    """18 layers of basic blocks: 11 million parameters, c5 of 512 channels."""
    return ResNet(18, **settings)


def resnet34(**settings: Any) -> ResNet:
    """34 layers of basic blocks: 21 million parameters, c5 of 512 channels."""
    return ResNet(34, **settings)


def resnet50(**settings: Any) -> ResNet:
    """50 layers of bottlenecks: 24 million parameters, c5 of 2048 channels."""
    return ResNet(50, **settings)


def resnet101(**settings: Any) -> ResNet:
    """101 layers of bottlenecks: 43 million parameters, c5 of 2048 channels."""
    return ResNet(101, **settings)


def resnet152(**settings: Any) -> ResNet:
    """152 layers of bottlenecks: 58 million parameters, c5 of 2048 channels."""
    return ResNet(152, **settings)


def resnext50_32x4d(**settings: Any) -> ResNet:
    """ResNet-50 with 32 groups of 4 channels."""
    return ResNet(50, groups=32, width_per_group=4, **settings)


def resnext101_32x8d(**settings: Any) -> ResNet:
    """ResNet-101 with 32 groups of 8 channels."""
    return ResNet(101, groups=32, width_per_group=8, **settings)


def resnext101_64x4d(**settings: Any) -> ResNet:
    """ResNet-101 with 64 groups of 4 channels."""
    return ResNet(101, groups=64, width_per_group=4, **settings)


def wide_resnet50_2(**settings: Any) -> ResNet:
    """ResNet-50 with 3x3 convolutions twice as wide."""
    return ResNet(50, width_per_group=128, **settings)


def wide_resnet101_2(**settings: Any) -> ResNet:
    """ResNet-101 with 3x3 convolutions twice as wide."""
    return ResNet(101, width_per_group=128, **settings)
