"""Image files below a folder: found, named, read and measured.

H, W the size of an image, C its channels, N images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.files import IMAGE_SUFFIXES, natural
from densekit.data.images import ImageReader, stored_size
from densekit.data.patience import tracked
from densekit.data.stacks import ARRAY_SUFFIXES


class ImageFiles:
    """Images whose sizes nobody annotated.

    Args:
        root: Folder that their names are relative to.
        names: The N files.
        reader: How they are read.
    """

    def __init__(self, root: Path, names: Sequence[str], reader: ImageReader) -> None:
        self.root = root
        # One flat array, which loader workers share instead of copying Python objects.
        self.names = np.asarray([name.encode() for name in names])
        self.reader = reader

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of an image."""
        name: bytes = self.names[index]
        return self.root / name.decode()

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C), upright.

        Raises:
            ValueError: It cannot be read; with the path.
        """
        return self.reader(self.path(index))

    @cached_property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width, from the headers of the files when first asked for."""
        places = tracked(range(len(self)), "reading sizes")
        return np.asarray([stored_size(self.path(index)) for index in places])

    def describe(self) -> dict[str, Any]:
        """Channels and dtype of the images, and their intensity where there is one."""
        reader = self.reader
        intensity = {} if reader.intensity is None else {"intensity": reader.intensity}
        return {"channels": reader.channels, "dtype": reader.dtype, **intensity}


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a folder; those that begin with a dot are left alone."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and _seen(entry.name))


def images_below(root: Path, folder: str = "") -> list[str]:
    """Names below `root` of the images in one of its folders and in the folders of that.

    Numbers in names are sorted as numbers; names that begin with a dot are left alone. Links are
    followed, each folder once.
    """
    suffixes = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
    found: list[str] = []
    walked = set[str]()
    for place, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(place)
        if real in walked:  # a link back
            folders.clear()
            continue
        walked.add(real)
        folders[:] = filter(_seen, folders)
        below = os.path.relpath(place, root)
        found += [
            os.path.normpath(os.path.join(below, name))  # noqa: PTH118 (Path is 10 times slower)
            for name in files
            if name.lower().endswith(suffixes) and _seen(name)
        ]
    return sorted((name.replace(os.sep, "/") for name in found), key=natural)


def _seen(name: str) -> bool:
    return not name.startswith(".")
