"""Segmentation heads: per-pixel logits from the levels of a backbone or neck."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "DeepLabV3": "deeplab",
        "DeepLabV3Plus": "deeplab",
        "FCN": "fcn",
        "PSPNet": "pspnet",
        "Segmentation": "base",
        "SemanticFPN": "semantic_fpn",
        "SmpHead": "smp_head",
        "Supervised": "base",
        "UNet": "unet",
        "UPerNet": "upernet",
    },
)
