"""Explanations: which pixels made a prediction, and whether that claim can be believed."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Explainer": "explainer",
        "Explanation": "explainer",
        "METHODS": "methods",
        "Settings": "settings",
        "Subject": "subject",
        "Target": "target",
    },
)
