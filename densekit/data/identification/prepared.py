"""Records how images of identities were prepared, for the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densekit.data.identification.align import AlignFace
from densekit.data.protocols import Dataset
from densekit.data.reading.images import stored_size
from densekit.data.transforms.geometry import Chain

MAX_SAMPLED = 1000
"""Images of a data set whose sizes are read, at most; they are evenly spread."""


def prepared(train: Dataset, transforms: Sequence[Any]) -> dict[str, Any]:
    """Smallest and largest (height, width) of the training images, and whether faces are aligned.

    Args:
        train: Training images, each with an identity.
        transforms: Their transforms in training and in evaluation; some may be None.

    Returns:
        `min_size` and `max_size`, each [height, width], and `aligned`.
    """
    aligner = next((found for found in map(_aligner, transforms) if found is not None), None)
    if aligner is not None:
        size = list(aligner.size)
        return {"min_size": size, "max_size": size, "aligned": True}
    indices = np.unique(np.linspace(0, len(train) - 1, min(len(train), MAX_SAMPLED)).astype(int))
    sizes = np.array([_size(train, int(index)) for index in indices])
    return {
        "min_size": sizes.min(0).tolist(),
        "max_size": sizes.max(0).tolist(),
        "aligned": False,
    }


def joined(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The records of one head's data sets merged: the range of all sizes; aligned if all are."""
    return {
        "min_size": np.min([one["min_size"] for one in found], axis=0).tolist(),
        "max_size": np.max([one["max_size"] for one in found], axis=0).tolist(),
        "aligned": all(one["aligned"] for one in found),
    }


def _aligner(transform: Any) -> AlignFace | None:
    """The first AlignFace of a transform, or None."""
    if isinstance(transform, AlignFace):
        return transform
    within = map(_aligner, transform.steps.values()) if isinstance(transform, Chain) else ()
    return next((found for found in within if found is not None), None)


def _size(train: Dataset, index: int) -> tuple[int, int]:
    """Height and width of an image from its file's header, else by reading the image."""
    if (path := train.path(index)) is not None:
        return stored_size(path)
    height, width = train[index]["image"].shape[:2]
    return height, width
