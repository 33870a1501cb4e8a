"""What a data set and a transform must be, and what more a data set may say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from densekit.types import Batch, Sample, TargetSpec

Origin = tuple[Sequence[Path], str]
"""The files of an image, and how they are read, in words."""


class StoredMasks(NamedTuple):
    """Masks that can be read without their images.

    Attributes:
        read: Number of a mask to its classes, (*S) or multi-label (K, *S), 255 where ignored.
        of_image: (N,) number of the mask of each image; the slices of a volume share one.
    """

    read: Callable[[int], NDArray[Any]]
    of_image: NDArray[np.int64]


class Dataset(ABC):
    """A map-style data set of N images; inherit from it and write the three abstract methods.

    Everything else is optional: its default is right for every data set, and what a data set knows
    better (a file, a size without opening the image, a mask without its image) it overrides.

    Attributes:
        target_specs: How collate stacks each entry of the samples' `extra`.
        modalities: What each channel is ("CT", "T1"); empty: not known.
        reads_files: Whether images are read from files: loader workers are started for those alone.
    """

    target_specs: Mapping[str, TargetSpec] = {}
    modalities: tuple[str, ...] = ()
    reads_files: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """One image with its targets, its `meta` and its `truth`, unresized."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values for the configuration: `names`, `ids`, `num_classes`, `channels`."""

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, D) sides of every image; by default every image is read."""
        return np.asarray([self[index]["image"].shape[:-1] for index in range(len(self))])

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) identity of each image, which `images_per_identity` draws by; None: not known."""
        return None

    @property
    def keys(self) -> NDArray[np.bytes_] | None:
        """(N,) equal where images are: they must not lie in two splits; None: not known."""
        return None

    def path(self, index: int) -> Path | None:
        """The file of an image, None where it has none; splits are made by its name."""
        return None

    def mask(self, index: int) -> NDArray[Any]:
        """(*S) classes of an image, or multi-label (K, *S); by default its sample is read.

        Raises:
            ValueError: If samples have no mask.
        """
        sample = self[index]
        if "mask" not in sample:
            raise ValueError(f"{sample['meta']['path']}: expected a mask, got {sorted(sample)}")
        return sample["mask"]

    def stored_masks(self) -> StoredMasks | None:
        """Masks that are searched for classes before training; None: they need their images.

        By default those of `mask`, if a data set has a `mask` of its own.
        """
        if getattr(self.mask, "__func__", None) is Dataset.mask:
            return None
        return StoredMasks(self.mask, np.arange(len(self)))

    def origin(self, index: int) -> Origin | None:
        """The files of an image, which are read once before training; None: they are not.

        Its second entry is how they are read, in words: files that were right are not read again
        unless they or these words change.
        """
        return None

    def read(self, index: int) -> NDArray[Any]:
        """The image, after a look at every file of `origin`.

        Raises:
            ValueError: If a file cannot be read, with its path.
        """
        return self[index]["image"]


OPTIONAL = {name: callable(found) for name, found in vars(Dataset).items() if name[0] != "_"}
"""Members with a default, and whether they are methods."""


def as_dataset(data: Any) -> Dataset:
    """The data set itself; one that does not inherit from `Dataset` gets defaults for the rest."""
    return data if isinstance(data, Dataset) else _Adapter(data)


class _Adapter(Dataset):
    """A data set of any class with the three methods; what else it has of `Dataset` counts too.

    An attribute where `Dataset` has a method (`path`, say) means something else, and is left alone.
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self._data[index]
        return sample

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = self._data.describe()
        return described

    def __getattribute__(self, name: str) -> Any:
        if name in OPTIONAL:
            own = getattr(self._data, name, None)
            if own is not None and callable(own) == OPTIONAL[name]:
                return own
        return super().__getattribute__(name)


class Transform(Protocol):
    """A change of one sample, random only through the generator that it is given."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; the given one and its arrays stay as they are."""


class BatchTransform(Protocol):
    """A change of a training batch, random only through the generator that it is given."""

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The changed batch; the given one and its tensors stay as they are."""
