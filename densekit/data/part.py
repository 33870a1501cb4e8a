"""One split of a data set that has none of its own, without copying files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.hold_out import HoldOut
from densekit.data.protocols import Dataset
from densekit.types import Sample


class Part:
    """The images of one split.

    Args:
        data: The whole data set.
        split: "train", "val", "test" or "all".
        splits: Who is in which. Groups are looked for in the paths of the images below the folder
            that holds them all, so that it does not matter where the data lie; series and images
            without a file have their `keys`, so that equal ones stay together, else numbers in
            their place. Slices have the path of their volume.

    Raises:
        ValueError: If there is no such split, it is empty, or a path has no group.
    """

    def __init__(self, data: Dataset, split: str, splits: HoldOut) -> None:
        groups = [splits.group_of(name) for name in _names(data)]
        self.data = data
        self.positions = np.asarray(splits.members(split, groups))
        self.target_specs = getattr(data, "target_specs", {})

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
    def keys(self) -> NDArray[Any]:
        """(n,) what equal images share, see `CategoryDataset`; empty if the data do not say."""
        found: NDArray[Any] = getattr(self.data, "keys", np.zeros(0, dtype=bytes))
        return found[self.positions] if len(found) else found

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image of this part."""
        sizes: NDArray[Any] = self.data.sizes[self.positions]
        return sizes


def _names(data: Any) -> list[str]:
    if not hasattr(data, "path") and len(keys := getattr(data, "keys", ())) == len(data):
        return [str(key.decode()) for key in keys]
    if not hasattr(data, "path"):
        return [str(index) for index in range(len(data))]
    paths = [Path(data.path(index)).absolute() for index in range(len(data))]
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]
