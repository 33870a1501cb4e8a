"""Base class of data sets and protocols of transforms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import getattr_static
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from densekit.data.presence import labels_in_mask, labels_in_sample
from densekit.types import Batch, Sample, TargetSpec

Origin = tuple[Sequence[Path], str]
"""The files of an image, and a text that describes how they are read."""


class StoredMasks(NamedTuple):
    """Masks that can be read without their images.

    Attributes:
        read: Reads the mask of a given number: (*S) or multi-label (K, *S), 255 where ignored.
        of_image: (N,) number of the mask of each image; the slices of a volume share one.
    """

    read: Callable[[int], NDArray[Any]]
    of_image: NDArray[np.int64]


class Dataset(ABC):
    """A map-style data set of N images; subclasses implement the three abstract methods.

    Everything else is optional. The defaults are right for every data set; override them for what
    a data set knows better, such as the size of an image without opening it. `sizes`, `labels` and
    `keys` may be properties or be assigned, as arrays or lists.

    Attributes:
        target_specs: How collate stacks each entry of the samples' `extra`.
        modalities: What each channel is ("CT", "T1"); empty if unknown.
        reads_files: Whether images are read from files; only then loader workers are started.
    """

    target_specs: Mapping[str, TargetSpec] = {}
    modalities: tuple[str, ...] = ()
    reads_files: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """One image with its targets, its `meta` and its `truth`, not resized."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that configure the model: `names`, `ids`, `num_classes`, `channels`."""

    @cached_property
    def sizes(self) -> NDArray[Any]:
        """(N, D) sides of every image; the default reads every image."""
        return np.asarray([self[index]["image"].shape[:-1] for index in range(len(self))])

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) identity of each image, used by `images_per_identity`; None if unknown."""
        return None

    @cached_property
    def keys(self) -> NDArray[np.bytes_] | None:
        """(N,) key that equal images share, as they must not be in two splits; None if unknown."""
        return None

    def path(self, index: int) -> Path | None:
        """The file of an image, by whose name splits are made; None if it has none."""
        return None

    def mask(self, index: int) -> NDArray[Any]:
        """(*S) or multi-label (K, *S) mask of an image; the default reads its whole sample.

        Raises:
            ValueError: If the samples have no mask.
        """
        sample = self[index]
        if "mask" not in sample:
            raise ValueError(f"{sample['meta']['path']}: expected a mask, got {sorted(sample)}")
        return sample["mask"]

    def stored_masks(self) -> StoredMasks | None:
        """The masks to search for classes before training; None if they need their images.

        The default reads them with `mask` if the data set overrides that method.
        """
        if getattr(self.mask, "__func__", None) is Dataset.mask:
            return None
        return StoredMasks(self.mask, np.arange(len(self)))

    def labels_in(self, index: int) -> NDArray[np.int64]:
        """(n,) labels of the classes that an image shows, without the background; for `sampling`.

        The default reads the mask alone if the data set overrides `mask`, else the whole sample.
        """
        if getattr(self.mask, "__func__", None) is Dataset.mask:
            return labels_in_sample(self[index], self.describe())
        return labels_in_mask(self.mask(index), self.describe())

    def origin(self, index: int) -> Origin | None:
        """The files of an image, to be read once before training; None if they are not.

        The second entry describes how they are read: intact files are read again only if they or
        this text change.
        """
        return None

    def read(self, index: int) -> NDArray[Any]:
        """Reads every file of `origin` and returns the image.

        Raises:
            ValueError: If a file cannot be read, with its path.
        """
        return self[index]["image"]


OPTIONAL = {name: callable(member) for name, member in vars(Dataset).items() if name[0] != "_"}
"""The public members of `Dataset`, and whether they are methods."""


def as_dataset(data: Any, key: str = "data") -> Dataset:
    """The data set itself, or an adapter with the defaults if it is not a `Dataset`.

    Args:
        data: An object with the three methods.
        key: What errors call it.

    Raises:
        ValueError: A method is missing, or `sizes` or `labels` is a method.
    """
    if any(_member(data, name) is None for name in ("__len__", "__getitem__", "describe")):
        raise ValueError(
            f"{key}: expected a data set with __len__, __getitem__ and describe, got"
            f" {type(data).__name__}"
        )
    for name in ("sizes", "labels"):  # `keys` may be the method of a mapping
        if callable(getattr_static(data, name, None)):
            raise ValueError(f"{key}.{name}: expected an array, got a method; make it a property")
    return data if isinstance(data, Dataset) else _Adapter(data)


def array_of(data: Dataset, name: Literal["sizes", "labels", "keys"]) -> NDArray[Any] | None:
    """An attribute of a data set as an array, text in UTF-8; None if the data set has none."""
    value = getattr(data, name)
    if value is None:
        return None
    array = np.asarray(value)
    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array


def _member(data: Any, name: str) -> Any:
    """A member of an object; None if it has none. An error of a property is raised."""
    if getattr_static(data, name, None) is None:
        return getattr(data, name, None)  # what `__getattr__` passes on
    return getattr(data, name)


class _Adapter(Dataset):
    """Adds the defaults of `Dataset` to an object with the three methods.

    Other members of `Dataset` that the object has are used too, but not an attribute where
    `Dataset` has a method (e.g. `path`): it means something else.
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
            own = _member(self._data, name)
            if own is not None and callable(own) == OPTIONAL[name]:
                return own
        return super().__getattribute__(name)


class Transform(Protocol):
    """Changes one sample; random only through the given generator."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; the given one and its arrays are not modified."""


class BatchTransform(Protocol):
    """Changes a training batch; random only through the given generator."""

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The changed batch; the given one and its tensors are not modified."""
