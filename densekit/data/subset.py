"""Some images of a data set, or the same ones several times, without copying files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset, Origin, StoredMasks, as_dataset
from densekit.types import Sample


class Subset(Dataset):
    """The images at some positions.

    Args:
        data: The whole data set.
        positions: Of the images that stay, in the order they are to have.

    Raises:
        ValueError: If there is no image at a position, or there are no positions.
    """

    def __init__(self, data: Dataset, positions: Sequence[int] | NDArray[np.int64]) -> None:
        self.data = as_dataset(data)
        self.positions = np.asarray(positions)
        whole = self.positions.dtype.kind == "i" and len(self.positions)
        if not whole or self.positions.min() < 0 or self.positions.max() >= len(data):
            raise ValueError(
                f"positions: expected whole numbers from 0 to {len(data) - 1}, at least one, got"
                f" {self.positions}"
            )
        self.target_specs = self.data.target_specs
        self.modalities = self.data.modalities
        self.reads_files = self.data.reads_files

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        """The image at a position of this part."""
        sample = self.data[int(self.positions[index])]
        sample["index"] = index
        return sample

    def describe(self) -> dict[str, Any]:
        """What the whole data set says of itself."""
        return self.data.describe()

    @property
    def sizes(self) -> NDArray[Any]:
        """(n, D) sides of every image of this part."""
        sizes: NDArray[Any] = self.data.sizes[self.positions]
        return sizes

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,) identity of every image; None if the whole data set does not say."""
        labels = self.data.labels
        return None if labels is None else labels[self.positions]

    @property
    def keys(self) -> NDArray[np.bytes_] | None:
        """(n,) what equal images share; None if the whole data set does not say."""
        keys = self.data.keys
        return None if keys is None else keys[self.positions]

    def path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        return self.data.path(int(self.positions[index]))

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of an image."""
        return self.data.mask(int(self.positions[index]))

    def stored_masks(self) -> StoredMasks | None:
        """The masks of this part, if they can be read without their images."""
        masks = self.data.stored_masks()
        return masks and StoredMasks(masks.read, masks.of_image[self.positions])

    def origin(self, index: int) -> Origin | None:
        """The files of an image, and how they are read."""
        return self.data.origin(int(self.positions[index]))

    def read(self, index: int) -> NDArray[Any]:
        """The image, after a look at every file of it."""
        return self.data.read(int(self.positions[index]))


def unwrapped(dataset: Dataset) -> tuple[Dataset, NDArray[np.int64]]:
    """The data set behind its parts, and the position there of each image."""
    positions = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        positions = dataset.positions[positions]
        dataset = dataset.data
    return dataset, positions


class RandomSubset(Subset):
    """A number of images drawn by a seed, to learn what more of them would bring.

    Of one seed a smaller number is part of every larger one.

    Args:
        data: The whole data set.
        num_images: How many are drawn.
        seed: Of the draw.

    Raises:
        ValueError: The data set has fewer.
    """

    def __init__(self, data: Dataset, num_images: int, seed: int = 0) -> None:
        if not 1 <= num_images <= len(data):
            raise ValueError(
                f"RandomSubset.num_images: expected 1 to {len(data)}, got {num_images}"
            )
        order = np.random.default_rng(seed).permutation(len(data))
        super().__init__(data, sorted(order[:num_images].tolist()))


class Repeat(Subset):
    """Makes an epoch of a small data set long enough to be worth its end.

    After every epoch there is a checkpoint and perhaps a validation: fifty series would make three
    steps. Each repeat of an image is augmented for itself.

    Args:
        data: The data set.
        times: How often it is repeated.

    Raises:
        ValueError: If it is not repeated at all.
    """

    def __init__(self, data: Dataset, times: int) -> None:
        if times < 1:
            raise ValueError(f"Repeat.times: expected at least 1, got {times}")
        super().__init__(data, np.tile(np.arange(len(data)), times))
