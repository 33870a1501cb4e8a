"""What every rendered data set has: a split, a length, a size and a seed."""

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
    """Pictures that are drawn, not read; picture i is a function of (seed, split, i).

    Args:
        split: "train", "val" or "test".
        length: Number of pictures.
        size: Height and width in pixels.
        seed: Another seed is another data set. It belongs to the data, not to a training run.
        smallest: Least height and width.

    Raises:
        ValueError: Another split, no picture, or too small ones.
    """

    reads_files = False

    def __init__(
        self, split: str, length: int, size: Sequence[int], seed: int, *, smallest: int
    ) -> None:
        name = type(self).__name__
        if split not in SPLITS:
            raise ValueError(unknown(f"{name}.split", split, SPLITS))
        if length < 1:
            raise ValueError(f"{name}.length: expected at least 1 picture, got {length}")
        if len(size) != 2 or min(size) < smallest:
            raise ValueError(
                f"{name}.size: height and width of at least {smallest}, found {list(size)}"
            )
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every picture."""
        return np.tile(np.asarray(self.size, dtype=np.int64), (self._length, 1))

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of the shapes; channels and dtype of the pictures."""
        return {
            "names": list(SHAPES),
            "ids": list(range(1, len(SHAPES) + 1)),
            "num_classes": len(SHAPES),
            "channels": 3,
            "dtype": "uint8",
        }

    def _generator(self, index: int) -> np.random.Generator:
        """The random numbers of a picture.

        Raises:
            IndexError: Beyond the length.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"picture {index} of {self._length}")
        return np.random.default_rng((self._seed, SPLITS.index(self.split), index))
