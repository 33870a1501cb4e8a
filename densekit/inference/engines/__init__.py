"""Engines: what computes a model's predictions, PyTorch itself or something faster."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "ENGINES": "base",
        "Engine": "base",
        "build_engine": "base",
        "with_engine": "base",
    },
)
