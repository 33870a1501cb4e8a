"""Inference: predictor, restoring, whole-image inferer."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {"Predictor": "predictor", "WholeImage": "whole_image"},
)
