"""Base class of the rendered data sets: split, length, size and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.protocols import Dataset
from densekit.data.splits import SPLITS
from densekit.data.synthetic.drawing import SHAPES


class Rendered(Dataset):
    """Rendered images; image i is a function of (seed, split, i).

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        size: Height and width in pixels.
        seed: Selects the data set; independent of the seed of a training run.
        smallest: Minimum height and width.

    Raises:
        ValueError: If the split is unknown, there is no image, or the size is too small.
    """

    reads_files = False

    def __init__(
        self, split: str, length: int, size: Sequence[int], seed: int, *, smallest: int
    ) -> None:
        name = type(self).__name__
        if split not in SPLITS:
            raise ValueError(unknown(f"{name}.split", split, SPLITS))
        if length < 1:
            raise ValueError(f"{name}.length: expected at least 1 image, got {length}")
        if len(size) != 2 or min(size) < smallest:
            raise ValueError(
                f"{name}.size: expected height and width of at least {smallest}, got {list(size)}"
            )
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image."""
        return np.tile(np.asarray(self.size, dtype=np.int64), (self._length, 1))

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of the shapes; channels and dtype of the images."""
        return {
            "names": list(SHAPES),
            "ids": list(range(1, len(SHAPES) + 1)),
            "num_classes": len(SHAPES),
            "channels": 3,
            "dtype": "uint8",
        }

    def _generator(self, index: int) -> np.random.Generator:
        """The random generator of an image.

        Raises:
            IndexError: If the index is out of range.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index: expected 0 to {self._length - 1}, got {index}")
        return np.random.default_rng((self._seed, SPLITS.index(self.split), index))
