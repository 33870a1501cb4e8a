"""Embeddings: one vector an image, whose angle to another tells whether they show the same."""

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
