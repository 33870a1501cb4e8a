"""Selected or repeated images of a data set, without copying files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset, Origin, StoredMasks, array_of, as_dataset
from densekit.types import Sample


class Subset(Dataset):
    """The images at given positions of a data set.

    Args:
        data: The whole data set.
        positions: Positions of the images in `data`, in their new order.

    Raises:
        ValueError: If a position is out of range, or there are no positions.
    """

    def __init__(self, data: Dataset, positions: Sequence[int] | NDArray[np.int64]) -> None:
        self.data = as_dataset(data)
        self.positions = np.asarray(positions)
        are_whole = self.positions.dtype.kind == "i" and len(self.positions)
        if not are_whole or self.positions.min() < 0 or self.positions.max() >= len(data):
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
        """The sample at a position of this subset."""
        sample = self.data[int(self.positions[index])]
        sample["index"] = index
        return sample

    def describe(self) -> dict[str, Any]:
        """The description of the whole data set."""
        return self.data.describe()

    @property
    def sizes(self) -> NDArray[Any]:
        """(n, D) sides of every image of this subset."""
        sizes: NDArray[Any] = np.asarray(self.data.sizes)[self.positions]
        return sizes

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,) identity of every image; None if the whole data set has none."""
        labels = array_of(self.data, "labels")
        return None if labels is None else labels[self.positions]

    @property
    def keys(self) -> NDArray[np.bytes_] | None:
        """(n,) key that equal images share; None if the whole data set has none."""
        keys = array_of(self.data, "keys")
        return None if keys is None else keys[self.positions]

    def path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        return self.data.path(int(self.positions[index]))

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of an image."""
        return self.data.mask(int(self.positions[index]))

    def stored_masks(self) -> StoredMasks | None:
        """The masks of this subset, None if they need their images."""
        masks = self.data.stored_masks()
        return masks and StoredMasks(masks.read, masks.of_image[self.positions])

    def labels_in(self, index: int) -> NDArray[np.int64]:
        """The labels of the classes that an image shows."""
        return self.data.labels_in(int(self.positions[index]))

    def origin(self, index: int) -> Origin | None:
        """The files of an image and how they are read."""
        return self.data.origin(int(self.positions[index]))

    def read(self, index: int) -> NDArray[Any]:
        """Reads every file of an image and returns the image."""
        return self.data.read(int(self.positions[index]))


def unwrapped(dataset: Dataset) -> tuple[Dataset, NDArray[np.int64]]:
    """The data set behind any subsets, and the position of each image in it."""
    positions = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        positions = dataset.positions[positions]
        dataset = dataset.data
    return dataset, positions


class RandomSubset(Subset):
    """A random subset of a given size, for learning curves.

    With one seed, a smaller subset is contained in every larger one.

    Args:
        data: The whole data set.
        num_images: Number of images to draw.
        seed: Seed of the draw.

    Raises:
        ValueError: If the data set has fewer images.
    """

    def __init__(self, data: Dataset, num_images: int, seed: int = 0) -> None:
        if not 1 <= num_images <= len(data):
            raise ValueError(
                f"RandomSubset.num_images: expected 1 to {len(data)}, got {num_images}"
            )
        order = np.random.default_rng(seed).permutation(len(data))
        super().__init__(data, sorted(order[:num_images].tolist()))


class Repeat(Subset):
    """A data set repeated several times, for longer epochs of small data sets.

    Every epoch ends with a checkpoint and perhaps a validation, too often for an epoch of three
    steps. Each repeat of an image is augmented separately.

    Args:
        data: The data set.
        times: Number of times that each image appears.

    Raises:
        ValueError: If `times` is less than 1.
    """

    def __init__(self, data: Dataset, times: int) -> None:
        if times < 1:
            raise ValueError(f"Repeat.times: expected at least 1, got {times}")
        super().__init__(data, np.tile(np.arange(len(data)), times))
