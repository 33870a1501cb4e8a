"""One split of a data set that has none of its own, without copying files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from densekit.data.protocols import Dataset
from densekit.data.splits import SplitRule
from densekit.data.subset import Subset


class Split(Subset):
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

    def __init__(self, data: Dataset, split: str, splits: SplitRule) -> None:
        groups = [splits.group_of(name) for name in _names(data)]
        super().__init__(data, splits.members(split, groups))


def _names(data: Any) -> list[str]:
    if isinstance(data, Subset):  # an image has one name, however often it is there
        names = _names(data.data)
        return [names[position] for position in data.positions]
    if not hasattr(data, "path") and len(keys := getattr(data, "keys", ())) == len(data):
        return [str(key.decode()) for key in keys]
    if not hasattr(data, "path"):
        return [str(index) for index in range(len(data))]
    paths = [Path(data.path(index)).absolute() for index in range(len(data))]
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]
