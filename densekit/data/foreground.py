"""Searches the masks of a data set for foreground and for classes that never appear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.presence import labels_in_mask
from densekit.data.protocols import Dataset, StoredMasks
from densekit.data.reading.bit_depths import UnreadableError
from densekit.data.reading.progress import tracked
from densekit.types import IGNORE_INDEX

ENOUGH = 1000
"""Masks that are read before a class counts as unseen."""


def shows_foreground(dataset: Dataset) -> bool:
    """Whether any mask has a pixel of a class other than 0, the background.

    Masks are read until one has, so that only a data set without foreground takes long. True if
    masks cannot be read without their images or are damaged, which is reported elsewhere.
    """
    masks = dataset.stored_masks()
    if masks is None:
        return True
    for mask in _in_random_order(masks, "searching masks for foreground"):
        if mask is None or ((mask > 0) & (mask != IGNORE_INDEX)).any():
            return True
    return False


def unseen_classes(dataset: Dataset) -> tuple[list[str], int]:
    """Names of the classes without a pixel, and the number of masks that were searched.

    Masks are read until every class has been seen, `ENOUGH` at most.
    """
    masks = dataset.stored_masks()
    if masks is None:
        return [], 0
    described = dataset.describe() | {"background": False}
    names = list(described["names"])
    missing, searched = set(range(len(names))), 0
    for mask in _in_random_order(masks, "searching masks for every class", ENOUGH):
        searched += mask is not None
        missing -= set(labels_in_mask(mask, described).tolist()) if mask is not None else set()
        if not missing:
            break
    return [names[label] for label in sorted(missing)], searched


def _in_random_order(
    masks: StoredMasks, what: str, limit: int | None = None
) -> Iterator[NDArray[Any] | None]:
    """Yields the masks, None for a damaged file."""
    # Neighbours are similar: the first slices of a scan may all be empty.
    order = np.random.default_rng(0).permutation(np.unique(masks.of_image))[:limit]
    for number in tracked(order.tolist(), what):
        try:
            mask = masks.read(number)
        except UnreadableError:  # damaged files are reported together before the first step
            mask = None
        yield mask
