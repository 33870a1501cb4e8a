"""Embeddings: one vector per image; a small angle between two means the same identity."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Embedding": "head",
        "FlattenedMap": "pooling",
        "GeneralisedMean": "pooling",
        "GlobalAverage": "pooling",
        "Pooling": "pooling",
    },
)
