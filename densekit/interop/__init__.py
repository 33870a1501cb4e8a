"""Conversion of other libraries' models to equivalent `DenseModel`s: one file per library."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "from_detectron2": "detectron2",
        "from_insightface": "insightface",
        "from_mmdet": "mmdet",
        "from_mmseg": "mmseg",
        "from_smp": "smp",
        "from_timm": "timm",
        "Conversion": "conversion",
        "convert": "sources",
        "from_torchvision": "torchvision",
    },
)
