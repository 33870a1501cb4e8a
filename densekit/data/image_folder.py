"""A folder a class, with its images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densekit.data.categories import PictureCategories
from densekit.data.files import IMAGE_SUFFIXES, existing_folder, natural
from densekit.data.images import ImageReader
from densekit.data.naming import check_names, nearest
from densekit.data.stacks import ARRAY_SUFFIXES

_KEY = "ImageFolder"


class ImageFolder(PictureCategories):
    """Images by the folder that they lie in, `root/CLASS/.../12.jpg`.

    Classes are the folders, sorted as torchvision sorts them, so that labels are those of ImageNet
    models. A folder that begins with a dot is left alone.

    Args:
        root: The folder of the folders.
        names: Folders in the order of their labels, for another order or for splits of which one
            lacks a class; each folder of the root must be among them.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: If there is no class, a folder is no class, or a class has no image; with the
            folder.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        folder = existing_folder(Path(root), f"{_KEY}.root")
        there = sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != ".")
        if not there:
            inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
            raise ValueError(f"{_KEY}.root: {folder} has no folder a class, found {inside}")
        names = check_names(there if names is None else names, f"{_KEY}.names")
        if spare := [name for name in there if name not in names]:
            hint = nearest(spare[0], names)
            raise ValueError(f"{_KEY}.names: {folder / spare[0]} is none of the classes; {hint}")
        files = {name: _images(folder / name) for name in names if name in there}
        if empty := [name for name, found in files.items() if not found]:
            raise ValueError(f"{_KEY}.root: class {folder / empty[0]} has no image")
        counts = [len(files.get(name, [])) for name in names]
        super().__init__(
            [path for found in files.values() for path in found],
            names,
            np.repeat(np.arange(len(names)), counts),
            ImageReader(channels, dtype, intensity),
        )


def _images(folder: Path) -> list[Path]:
    """The images of a class and of its sub-folders, numbers in names sorted as numbers."""
    suffixes = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
    found = [
        os.path.join(place, name)  # noqa: PTH118 (Path is 10 times slower)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(suffixes) and name[0] != "."
    ]
    return [Path(name) for name in sorted(found, key=natural)]
