"""Necks: levels c2..c5 in, the same and levels p2..p7 out."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__, {"FPN": "fpn", "Neck": "base"})
