"""How many pixels of each class a data set has."""

from __future__ import annotations

from typing import Any

import numpy as np

from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.data.subset import Subset
from densekit.types import IGNORE_INDEX


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Class name to number of pixels (voxels); ignored ones are not counted.

    Of a binary set, "background" and the class; of a multi-label set, each class by itself.

    Args:
        dataset: Has semantic masks; images are not read where it has a method `mask`.

    Raises:
        ValueError: If its samples have no mask.
    """
    described = dataset.describe()
    names, multilabel = described["names"], bool(described.get("multilabel"))
    columns = names if len(names) > 1 or multilabel else ["background", *names]
    counts = np.zeros(len(columns), dtype=np.int64)
    for index in tracked(range(len(dataset)), "counting pixels"):
        mask = _mask(dataset, index)
        if multilabel:
            counts += (mask == 1).reshape(len(names), -1).sum(axis=1)
        else:
            pixels = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
            counts += pixels[: len(columns)]
    return dict(zip(columns, counts.tolist(), strict=True))


def _mask(dataset: Any, index: int) -> Any:
    if isinstance(dataset, Subset):
        return _mask(dataset.data, int(dataset.positions[index]))
    if hasattr(dataset, "mask"):
        return dataset.mask(index)
    sample = dataset[index]
    if "mask" not in sample:
        raise ValueError(f"{type(dataset).__name__}: samples have no mask, found {sorted(sample)}")
    return sample["mask"]
