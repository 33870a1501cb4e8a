"""Image files as part of a data set, with measured or with annotated sizes.

H, W the size of an image, C its channels, N images.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset, Origin
from densekit.data.reading.images import ImageReader, size_if_readable
from densekit.data.reading.progress import tracked


class ImageFiles:
    """Image files whose sizes are not annotated.

    Args:
        root: Folder that their names are relative to.
        names: The N files.
        reader: Reads them.
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
        """Reads an image as (H, W, C), upright.

        Raises:
            ValueError: If it cannot be read, with its path.
        """
        return self.reader(self.path(index))

    def origin(self, index: int) -> Origin:
        """The file of an image and the form in which it is read."""
        return [self.path(index)], self.reader.declared

    @cached_property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width, read from the file headers at first use."""
        places = tracked(range(len(self)), "reading sizes")
        return np.asarray([size_if_readable(self.path(index)) for index in places])

    def describe(self) -> dict[str, Any]:
        """Channels, dtype and, if there is one, the intensity rule of the images."""
        return self.reader.describe()


class SizedImages(Dataset):
    """A data set of image files with annotated sizes; a file of another size is refused.

    Args:
        reader: Reads the images.
    """

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader

    @property
    @abstractmethod
    def sizes(self) -> NDArray[Any]:
        """(N, 2) annotated height and width of every image."""

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of an image."""

    def origin(self, index: int) -> Origin:
        """The file of an image and the form in which it is read."""
        return [self.path(index)], f"{self._reader.declared} {self._size(index)}"

    def read(self, index: int) -> NDArray[Any]:
        """Reads an image as (H, W, C), upright.

        Raises:
            ValueError: If it cannot be read, with its path.
        """
        return self._reader(self.path(index), self._size(index))

    def _size(self, index: int) -> tuple[int, int]:
        height, width = (int(side) for side in self.sizes[index])
        return height, width
