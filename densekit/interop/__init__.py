"""Other libraries' models in, equal `DenseModel`s out: one file a source."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "from_insightface": "insightface",
        "from_smp": "smp",
        "from_timm": "timm",
        "from_torchvision": "torchvision",
    },
)
