"""Whether the masks of a data set show anything to be learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.slices import VolumeSlices
from densekit.data.protocols import Dataset
from densekit.data.reading.depths import UnreadableError
from densekit.data.reading.progress import tracked
from densekit.data.subset import Subset
from densekit.types import IGNORE_INDEX

ENOUGH = 1000
"""Masks that are looked at before a class counts as never seen."""


def shows_foreground(dataset: Dataset) -> bool:
    """Whether any mask has a pixel of another class than the first one, which is the background.

    Masks are read until one has, so that only a data set without any takes long. True for data sets
    whose masks cannot be read alone, or are damaged: those are named before training.
    """
    read, places = _reader(dataset)
    if read is None:
        return True
    for mask in _in_random_order(read, places, "looking for a foreground"):
        if mask is None or ((mask > 0) & (mask != IGNORE_INDEX)).any():
            return True
    return False


def unseen_classes(dataset: Dataset) -> tuple[list[str], int]:
    """Names of the classes without a pixel, and in how many masks they were looked for.

    Masks are read until every class has been seen, at most `ENOUGH`.
    """
    read, places = _reader(dataset)
    if read is None:
        return [], 0
    described = dataset.describe()
    names, multilabel = list(described["names"]), bool(described.get("multilabel"))
    missing, looked = set(range(len(names))), 0
    for mask in _in_random_order(read, places, "looking for every class", ENOUGH):
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


_Read = Callable[[int], NDArray[Any]]


def _reader(dataset: Any) -> tuple[_Read | None, NDArray[Any]]:
    """What reads a mask without its image, and which mask each image has."""
    if isinstance(dataset, Subset):
        read, places = _reader(dataset.data)
        return read, places if read is None else places[dataset.positions]
    if isinstance(dataset, VolumeSlices):
        return dataset.volumes.stored_mask, dataset.volume_of
    read = getattr(dataset, "stored_mask", None) or getattr(dataset, "mask", None)
    if not callable(read):
        return None, np.arange(0)
    return read, np.arange(len(dataset))


def _in_random_order(
    read: _Read, places: NDArray[Any], what: str, limit: int | None = None
) -> Iterator[NDArray[Any] | None]:
    """The masks, None for a damaged file."""
    # Neighbours are alike: the first slices of a scan may all be empty.
    order = np.random.default_rng(0).permutation(np.unique(places))[:limit]
    for place in tracked(order.tolist(), what):
        try:
            mask = read(place)
        except UnreadableError:  # all of them are named together before the first step
            mask = None
        yield mask
