"""Whether the masks of a data set show anything to be learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset, StoredMasks
from densekit.data.reading.bit_depths import UnreadableError
from densekit.data.reading.progress import tracked
from densekit.types import IGNORE_INDEX

ENOUGH = 1000
"""Masks that are looked at before a class counts as never seen."""


def shows_foreground(dataset: Dataset) -> bool:
    """Whether any mask has a pixel of another class than the first one, which is the background.

    Masks are read until one has, so that only a data set without any takes long. True for data sets
    whose masks cannot be read alone, or are damaged: those are named before training.
    """
    masks = dataset.stored_masks()
    if masks is None:
        return True
    for mask in _in_random_order(masks, "looking for a foreground"):
        if mask is None or ((mask > 0) & (mask != IGNORE_INDEX)).any():
            return True
    return False


def unseen_classes(dataset: Dataset) -> tuple[list[str], int]:
    """Names of the classes without a pixel, and in how many masks they were looked for.

    Masks are read until every class has been seen, at most `ENOUGH`.
    """
    masks = dataset.stored_masks()
    if masks is None:
        return [], 0
    described = dataset.describe()
    names, multilabel = list(described["names"]), bool(described.get("multilabel"))
    missing, looked = set(range(len(names))), 0
    for mask in _in_random_order(masks, "looking for every class", ENOUGH):
        looked += mask is not None
        missing -= _seen(mask, len(names), multilabel) if mask is not None else set()
        if not missing:
            break
    return [names[label] for label in sorted(missing)], looked


def _seen(mask: NDArray[Any], classes: int, multilabel: bool) -> set[int]:
    if multilabel:
        return set(np.flatnonzero((mask == 1).reshape(classes, -1).any(axis=1)).tolist())
    values = np.flatnonzero(np.bincount(mask.ravel()))
    return set((values - 1 if classes == 1 else values).tolist())


def _in_random_order(
    masks: StoredMasks, what: str, limit: int | None = None
) -> Iterator[NDArray[Any] | None]:
    """The masks, None for a damaged file."""
    # Neighbours are alike: the first slices of a scan may all be empty.
    order = np.random.default_rng(0).permutation(np.unique(masks.of_image))[:limit]
    for place in tracked(order.tolist(), what):
        try:
            mask = masks.read(place)
        except UnreadableError:  # all of them are named together before the first step
            mask = None
        yield mask
