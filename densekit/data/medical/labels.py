"""Maps the stored values of masks to classes 0..K-1, or to one plane per region.

K classes, S the D sizes of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.naming import tidy_names
from densekit.types import IGNORE_INDEX

IGNORE_NAME = "ignore"
"""Voxels with the label of this name are left out of losses and metrics."""

_MOST_VALUES = 1 << 16


class LabelTable:
    """The classes of a medical data set.

    Args:
        labels: Class name to stored value; a list of values is a region that may overlap others
            (nnU-Net's region-based labels), which makes the data set multi-label. The name
            `ignore` marks voxels that do not count.
        source: The file or key that names the classes, for messages.

    Attributes:
        names: Class names by increasing stored value; regions in the given order, without the
            background.
        ids: Stored value of each class; 1..K for regions.
        multilabel: Whether masks are (K, *S).
        background: Whether class 0 is the background, stored as 0.
        key: Plain values that identify the table.
        known: The stored values that a mask may have.

    Raises:
        ValueError: If a value is not a whole number from 0 to 65535, or appears twice.
    """

    def __init__(self, labels: Mapping[str, int | Sequence[int]], source: str) -> None:
        if not isinstance(labels, Mapping):
            raise ValueError(f"{source}: expected names with their values, got {labels!r:.80}")
        values = {name: _whole(name, value, source) for name, value in labels.items()}
        self._ignored = values.pop(IGNORE_NAME, [])
        self.multilabel = any(len(v) > 1 for v in values.values())
        if self.multilabel:
            values = {name: v for name, v in values.items() if v != [0]}
        else:
            values = dict(sorted(values.items(), key=lambda item: item[1]))
        self.names = tidy_names(list(values), source)
        self._values = list(values.values())
        flat = [v for group in [*self._values, self._ignored] for v in group]
        if not self.multilabel and len(set(flat)) < len(flat) or len(values) > IGNORE_INDEX:
            raise ValueError(
                f"{source}: expected up to 255 classes of one value each, got {labels}"
            )
        self.known = {0, *flat} if self.multilabel else set(flat)
        self.ids = [v[0] for v in self._values]
        if self.multilabel:
            self.ids = list(range(1, len(values) + 1))
        self.background = not self.multilabel and self._values[0] == [0]
        self.key = [self._values, self._ignored]
        self._tables = self._lookup()

    def encode(self, stored: NDArray[Any], path: str) -> NDArray[Any]:
        """Maps a stored mask to classes.

        Args:
            stored: (*S) stored values.
            path: Its file, for the message.

        Returns:
            (*S) or (K, *S) uint8.

        Raises:
            ValueError: If a value belongs to no class; the message lists such values.
        """
        planes = len(self._values) if self.multilabel else 1
        out = np.empty((planes, *stored.shape), dtype=np.uint8)
        wrong: set[float] = set()
        for index, part in enumerate(stored):  # slice by slice, to save memory
            whole = np.clip(part, 0, _MOST_VALUES - 1).astype(np.uint16)
            odd = whole != part
            wrong |= set(part[odd].ravel()[:1000].tolist())
            counts = np.bincount(whole[~odd])
            wrong |= set(np.flatnonzero(counts).tolist()) - self.known
            for plane, table in enumerate(self._tables):
                out[plane, index] = table[whole]
        if wrong:
            classes = dict(zip(self.names, self._values, strict=True))
            raise ValueError(
                f"{path}: expected the values of the classes {classes}"
                + (f" and ignore: {self._ignored}" if self._ignored else "")
                + f", got {sorted(wrong)[:20]}"
            )
        return out if self.multilabel else out[0]

    def _lookup(self) -> list[NDArray[Any]]:
        """Lookup tables of stored values: one of classes, or one of 0 and 1 per region."""
        groups = self._values if self.multilabel else [[v] for [v] in self._values]
        if not self.multilabel:
            table = np.full(_MOST_VALUES, IGNORE_INDEX, dtype=np.uint8)
            for number, group in enumerate(groups):
                table[group] = number
            return [table]
        tables = []
        for group in groups:
            table = np.zeros(_MOST_VALUES, dtype=np.uint8)
            table[group] = 1
            table[self._ignored] = IGNORE_INDEX
            tables.append(table)
        return tables


def _whole(name: str, value: int | Sequence[int], source: str) -> list[int]:
    values = list(value) if isinstance(value, Sequence) else [value]
    good = [v for v in values if type(v) is int and 0 <= v < _MOST_VALUES]
    if not values or good != values:
        raise ValueError(
            f"{source}.{name}: expected whole numbers from 0 to {_MOST_VALUES - 1}, got {value!r}"
        )
    return values
