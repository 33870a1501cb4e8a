"""One folder of images per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densekit._names import unknown
from densekit.data.classification.dataset import PictureCategories
from densekit.data.naming import check_names
from densekit.data.reading.files import existing_folder, folders_in, images_below
from densekit.data.reading.image_files import ImageFiles
from densekit.data.reading.images import ImageReader

_KEY = "ImageFolder"


class ImageFolder(PictureCategories):
    """Images classified by their folder, `root/CLASS/.../12.jpg`.

    Classes are the folders, sorted as torchvision sorts them, so that labels are those of ImageNet
    models. Folders whose name begins with a dot are ignored.

    Args:
        root: Folder with one sub-folder per class.
        names: Sub-folders in the order of their labels, for another order or for splits of which
            one lacks a class; each sub-folder of the root must be among them.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: Naming the folder, if there is no class, a folder is not in `names`, or a class
            has no image.
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
        present = folders_in(folder)
        if not present:
            inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
            raise ValueError(f"{_KEY}.root: expected a folder per class in {folder}, got {inside}")
        names = check_names(present if names is None else names, f"{_KEY}.names")
        if spare := [name for name in present if name not in names]:
            raise ValueError(unknown(f"{_KEY}.names: folder of {folder}", spare[0], names))
        files = {name: images_below(folder, name) for name in names if name in present}
        if empty := [name for name, found in files.items() if not found]:
            raise ValueError(
                f"{_KEY}.root: expected images of every class, got none in {folder / empty[0]}"
            )
        counts = [len(files.get(name, [])) for name in names]
        super().__init__(
            ImageFiles(
                folder,
                [image for found in files.values() for image in found],
                ImageReader(channels, dtype, intensity),
            ),
            names,
            np.repeat(np.arange(len(names)), counts),
        )
