"""How pictures of identities come to a network: what a checkpoint keeps, to be met again later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from densekit.data.identification.align import AlignFace
from densekit.data.protocols import Dataset
from densekit.data.reading.images import stored_size
from densekit.data.transforms.geometry import Chain

LOOKED_AT = 1000
"""Images of a data set whose sizes are looked at, evenly spread."""


def prepared(train: Dataset, transforms: Sequence[Any]) -> dict[str, Any]:
    """Smallest and largest (height, width) that training sees, and whether faces are aligned.

    Args:
        train: Training images with an identity each.
        transforms: What changes them, in training and in evaluation; some may be None.

    Returns:
        `min_size` and `max_size`, lists of two, and `aligned`.
    """
    aligner = next((found for found in map(_aligner, transforms) if found is not None), None)
    if aligner is not None:
        size = list(aligner.size)
        return {"min_size": size, "max_size": size, "aligned": True}
    places = np.unique(np.linspace(0, len(train) - 1, min(len(train), LOOKED_AT)).astype(int))
    sizes = np.array([_size(train, int(place)) for place in places])
    return {
        "min_size": sizes.min(0).tolist(),
        "max_size": sizes.max(0).tolist(),
        "aligned": False,
    }


def joined(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several data sets of one head have in common: all sizes, and alignment of all."""
    return {
        "min_size": np.min([one["min_size"] for one in found], axis=0).tolist(),
        "max_size": np.max([one["max_size"] for one in found], axis=0).tolist(),
        "aligned": all(one["aligned"] for one in found),
    }


def _aligner(transform: Any) -> AlignFace | None:
    """The alignment among the steps of a transform."""
    if isinstance(transform, AlignFace):
        return transform
    within = map(_aligner, transform.steps.values()) if isinstance(transform, Chain) else ()
    return next((found for found in within if found is not None), None)


def _size(train: Dataset, place: int) -> tuple[int, int]:
    """From the file's header where there is one, else by reading the image."""
    if (path := train.path(place)) is not None:
        return stored_size(path)
    height, width = train[place]["image"].shape[:2]
    return height, width
