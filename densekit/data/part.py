"""One split of a data set that has none of its own, without copying files."""

from __future__ import annotations

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
        splits: Who is in which. Groups are looked for in the paths of the images; a data set that
            has none has numbers in their place.

    Raises:
        ValueError: If there is no such split, it is empty, or a path has no group.
    """

    def __init__(self, data: Dataset, split: str, splits: HoldOut) -> None:
        groups = [splits.group_of(_name(data, index)) for index in range(len(data))]
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
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image of this part."""
        sizes: NDArray[Any] = self.data.sizes[self.positions]
        return sizes


def _name(data: Any, index: int) -> str:
    return data.path(index).as_posix() if hasattr(data, "path") else str(index)
