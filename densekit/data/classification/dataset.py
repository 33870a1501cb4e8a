"""Base classes of the data sets of categories: one class per image, or several labels.

N images, S the D sizes of an image, C its channels, K classes, L the length of a series.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.naming import check_names, same_words, say_lookalikes
from densekit.data.protocols import Dataset, Origin
from densekit.data.reading.files import natural
from densekit.data.reading.image_files import ImageFiles
from densekit.data.reading.intensity import check_rule, scale
from densekit.types import Meta, Sample, Truth


class CategoryDataset(Dataset):
    """Images, each with a category.

    Args:
        names: K class names in the order of their labels.
        categories: (N,) int64 classes, or (N, K) labels of 0 and 1.
    """

    def __init__(self, names: Sequence[str], categories: NDArray[Any]) -> None:
        self.names = list(names)
        self.categories = categories

    @abstractmethod
    def image(self, index: int) -> NDArray[Any]:
        """(*S, C) uint8 or float32 image."""

    @abstractmethod
    def where(self, index: int) -> str:
        """The file of an image, or another name of it."""

    @property
    @abstractmethod
    def sizes(self) -> NDArray[Any]:
        """(N, D) sizes of every image."""

    @property
    @abstractmethod
    def keys(self) -> NDArray[Any]:
        """(N,) bytes, equal for equal images, which must not be in two splits."""

    def __len__(self) -> int:
        return len(self.categories)

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of classes, and whether an image may have several."""
        return {
            "names": list(self.names),
            "ids": list(range(len(self.names))),
            "num_classes": len(self.names),
            "multilabel": self.categories.ndim == 2,
        }

    def labels_in(self, index: int) -> NDArray[np.int64]:
        """(n,) class of an image, or its several labels."""
        category = self.categories[index]
        return np.flatnonzero(category) if category.ndim else np.asarray([category])

    def __getitem__(self, index: int) -> Sample:
        """The image and its category, which is also the ground truth.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        image, category = self.image(index), self.categories[index]
        size = tuple(int(side) for side in image.shape[:-1])
        learned = category.astype(np.float32) if category.ndim else np.asarray(category)
        return Sample(
            image=image,
            category=learned,
            index=index,
            meta=Meta(path=self.where(index), image_id=index, original_size=size),
            truth=Truth(image_id=index, size=size, category=np.asarray(category)),
        )


class PictureCategories(CategoryDataset):
    """Categories of image files.

    Args:
        files: The N files.
        names: See `CategoryDataset`.
        categories: See `CategoryDataset`.
    """

    def __init__(self, files: ImageFiles, names: Sequence[str], categories: NDArray[Any]) -> None:
        super().__init__(names, categories)
        self._files = files

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self._files.path(index)

    def origin(self, index: int) -> Origin:
        """The file of an image, and how it is read."""
        return self._files.origin(index)

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C) image, upright."""
        return self._files.read(index)

    def where(self, index: int) -> str:
        """The file of an image."""
        return str(self.path(index))

    def image(self, index: int) -> NDArray[Any]:
        """(H, W, C) image, upright."""
        return self.read(index)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width, read from the files' headers on first access."""
        return self._files.sizes

    @cached_property
    def keys(self) -> NDArray[Any]:
        """(N,) absolute paths of the files, as bytes."""
        files = (os.path.abspath(self.path(index)) for index in range(len(self)))  # noqa: PTH100
        return np.asarray([file.encode() for file in files])

    def describe(self) -> dict[str, Any]:
        """The classes; channels, dtype and intensity of the images."""
        return super().describe() | self._files.describe()


class SeriesCategories(CategoryDataset):
    """Categories of series, held in memory as images of one spatial dimension.

    Args:
        series: N arrays (L, C) float32, of any lengths.
        names: See `CategoryDataset`.
        categories: See `CategoryDataset`.
        source: The file; with its index in it, it names a series.
        intensity: How values are scaled, see `densekit.data.reading.intensity`; None leaves them.
    """

    def __init__(
        self,
        series: Sequence[NDArray[Any]],
        names: Sequence[str],
        categories: NDArray[Any],
        source: str,
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(names, categories)
        self._series = list(series)
        self._source = source
        self._intensity = check_rule(intensity)

    def where(self, index: int) -> str:
        """The file and the index of a series in it."""
        return f"{self._source}#{index}"

    def image(self, index: int) -> NDArray[Any]:
        """(L, C) float32 series."""
        return scale(self._series[index], self._intensity)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 1) lengths of the series."""
        return np.asarray([[len(values)] for values in self._series])

    @cached_property
    def keys(self) -> NDArray[Any]:
        """(N,) digests of the values."""
        digests = [hashlib.sha256(np.ascontiguousarray(v).tobytes()) for v in self._series]
        return np.asarray([digest.hexdigest().encode() for digest in digests])

    def describe(self) -> dict[str, Any]:
        """The classes, channels and scaling. Without `intensity`, values are left as they are."""
        channels = self._series[0].shape[1]
        images = {"channels": channels, "dtype": "float32", "spatial_dims": 1}
        if self._intensity is not None:
            return {**super().describe(), **images, "intensity": self._intensity}
        scaled = {"mean": [0.0] * channels, "std": [1.0] * channels}
        return {**super().describe(), **images, **scaled}


def categories_of(
    cells: Sequence[tuple[str, str]], names: Sequence[str] | None, key: str
) -> tuple[list[str], NDArray[np.int64]]:
    """K names and (N,) classes of the cells of a table; names that look alike are one class.

    Args:
        cells: Line and class name of each.
        names: Class names in the order of their labels; None sorts those found.
        key: The data set's class, for messages.

    Raises:
        ValueError: Naming the line, for a class that is unknown or empty.
    """
    words = same_words(name for _, name in cells)
    say_lookalikes(filter(None, words), f"{key}: classes")
    found = sorted(set(filter(None, words)), key=natural)
    source = cells[0][0].rpartition(", line")[0] if names is None and cells else f"{key}.names"
    names = check_names(found if names is None else names, source)
    labels = {word: label for label, word in enumerate(same_words(names))}
    for (where, name), word in zip(cells, words, strict=True):
        if word not in labels:
            raise ValueError(unknown(f"{where}: class", name, names))
    return names, np.asarray([labels[word] for word in words], dtype=np.int64)
