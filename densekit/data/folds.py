"""One part of a data set, by position or by patient: hold-out and k-fold without copying files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset
from densekit.types import Sample


class Fold:
    """The images of one fold, or of all others.

    Image i belongs to fold i modulo `of`; with `group`, all images of a group (a patient) do, the
    groups being numbered as they first appear. Two data sets that differ in `held_out` alone share
    no image and together are the whole.

    Args:
        data: The whole data set.
        number: The fold, 0 to `of` - 1.
        of: Number of folds.
        held_out: Whether these are the fold's own images, rather than those of the other folds.
        group: A regular expression looked for in each image's path; its first bracket (all of it
            without one) is the group, e.g. `patient([0-9]+)`.

    Raises:
        ValueError: If there is no such fold, the part is empty or a path has no group.
    """

    def __init__(
        self,
        data: Dataset,
        number: int,
        of: int,
        *,
        held_out: bool = False,
        group: str | None = None,
    ) -> None:
        if not 0 <= number < of:
            raise ValueError(f"Fold.number: 0 to {of - 1} are accepted (of: {of}), found {number}")
        numbers = np.arange(len(data)) if group is None else _groups(data, group)
        self.data = data
        self.positions = np.flatnonzero((numbers % of == number) == held_out)
        self.target_specs = getattr(data, "target_specs", {})
        if not len(self.positions):
            raise ValueError(
                f"Fold: nothing left of {len(data)} images in {numbers.max() + 1} groups"
            )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        """The image at a position of this part."""
        sample = self.data[int(self.positions[index])]
        sample["index"] = index
        return sample

    def path(self, index: int) -> Path:
        """The file of an image."""
        found: Path = self.data.path(int(self.positions[index]))  # type: ignore[attr-defined]
        return found

    def describe(self) -> dict[str, Any]:
        """What the whole data set says of itself."""
        return self.data.describe()

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image of this part."""
        sizes: NDArray[Any] = self.data.sizes[self.positions]
        return sizes


def _groups(data: Any, pattern: str) -> NDArray[Any]:
    """(N,) number of each image's group."""
    if not hasattr(data, "path"):
        raise ValueError(f"Fold.group: images of {type(data).__name__} have no path")
    numbers: dict[str, int] = {}
    found = []
    for index in range(len(data)):
        path = data.path(index).as_posix()
        match = re.search(pattern, path)
        if match is None:
            raise ValueError(f"Fold.group: {pattern!r} is not found in {path}")
        name = match.group(1) if match.re.groups else match.group()
        found.append(numbers.setdefault(name, len(numbers)))
    return np.asarray(found)
