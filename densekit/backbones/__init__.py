"""Backbones: compute feature levels c0..c5 of an image."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Backbone": "base",
        "CifarResNet": "cifar",
        "IResNet": "iresnet",
        "ResNet": "resnet",
        "TimmBackbone": "timm",
        "resnet18": "variants",
        "resnet34": "variants",
        "resnet50": "variants",
        "resnet101": "variants",
        "resnet152": "variants",
        "resnext50_32x4d": "variants",
        "resnext101_32x8d": "variants",
        "resnext101_64x4d": "variants",
        "wide_resnet50_2": "variants",
        "wide_resnet101_2": "variants",
    },
)
