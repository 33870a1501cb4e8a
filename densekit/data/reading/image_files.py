"""Image files below a folder: found, named, read and measured.

H, W the size of an image, C its channels, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Origin
from densekit.data.reading.images import ImageReader, size_if_readable
from densekit.data.reading.progress import tracked


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

    def origin(self, index: int) -> Origin:
        """The file of an image, and how it is read."""
        return [self.path(index)], self.reader.declared

    @cached_property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width, from the headers of the files when first asked for."""
        places = tracked(range(len(self)), "reading sizes")
        return np.asarray([size_if_readable(self.path(index)) for index in places])

    def describe(self) -> dict[str, Any]:
        """Channels and dtype of the images, and their intensity where there is one."""
        reader = self.reader
        intensity = {} if reader.intensity is None else {"intensity": reader.intensity}
        return {"channels": reader.channels, "dtype": reader.dtype, **intensity}
