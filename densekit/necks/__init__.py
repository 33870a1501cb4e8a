"""Necks: add levels p2..p7 to the backbone's c2..c5."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__, {"FPN": "fpn", "Neck": "base", "PAFPN": "pafpn"})
