"""What a data set of masks is like, measured: sizes, spacings, intensities, class frequencies.

N images, D spatial dimensions, K classes, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.axes import turned_sides
from densekit.data.protocols import Dataset, as_dataset
from densekit.data.reading.progress import tracked
from densekit.types import IGNORE_INDEX, Sample

PERCENTILES = (0.5, 50.0, 99.5)
VOXELS_PER_CASE = 10_000
"""As many of a case's foreground voxels stand for its intensities (Isensee et al. 2021)."""


@dataclass(frozen=True)
class Fingerprint:
    """Measurements of a data set.

    Attributes:
        names: K class names, a background first where the data has one.
        background: Whether class 0 is one.
        shapes: (N, D) voxels.
        spacings: (N, D) millimetres, 1 where the data does not say.
        shares: (K,) part of the counted voxels that each class has.
        present: (K,) number of cases in which each class occurs.
        modalities: What each channel is, empty where the data do not say.
        lowest: (C,) smallest stored value.
        percentiles: (C, 3) of the foreground's stored values: 0.5, 50, 99.5.
        means: (C,) of the foreground's stored values.
        stds: (C,) their standard deviations.
    """

    names: list[str]
    background: bool
    shapes: NDArray[Any]
    spacings: NDArray[Any]
    shares: NDArray[Any]
    present: NDArray[Any]
    modalities: tuple[str, ...]
    lowest: NDArray[Any]
    percentiles: NDArray[Any]
    means: NDArray[Any]
    stds: NDArray[Any]


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spread and the same every time."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))
    return [int(index) for index in chosen]


def fingerprint(dataset: Dataset, indices: Iterable[int]) -> Fingerprint:
    """Reads samples and measures them.

    Args:
        dataset: Gives stored intensities and stored masks (no scaling, no resampling).
        indices: The samples to read.

    Raises:
        ValueError: If the samples have no mask.
    """
    described = dataset.describe()
    names, background = list(described["names"]), bool(described.get("background", False))
    cases = [_measured(dataset[index], len(names), background) for index in indices]
    counts = np.stack([case.counts for case in cases])
    # What surrounds a foreground says nothing of it, unless there is none at all.
    shown = [case for case in cases if case.shows] or cases
    values = np.concatenate([case.values for case in shown])
    return Fingerprint(
        names=names,
        background=background,
        shapes=np.asarray([case.shape for case in cases]),
        spacings=np.asarray([case.spacing for case in cases], dtype=np.float64),
        shares=counts.sum(0) / max(1, sum(case.counted for case in cases)),
        present=(counts > 0).sum(0),
        modalities=as_dataset(dataset).modalities,
        lowest=np.min([case.lowest for case in cases], axis=0),
        percentiles=np.percentile(values, PERCENTILES, axis=0).T,
        means=values.mean(axis=0, dtype=np.float64),
        stds=values.std(axis=0, dtype=np.float64),
    )


@dataclass(frozen=True)
class _Case:
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    counts: NDArray[Any]  # (K,) voxels of each class
    counted: int  # voxels that are not ignored
    lowest: NDArray[Any]  # (C,)
    shows: bool  # whether there is a foreground
    values: NDArray[Any]  # (n, C) of it, or of everything


def _measured(sample: Sample, classes: int, background: bool) -> _Case:
    if "mask" not in sample:
        raise ValueError(f"{sample['meta']['path']}: expected a mask, got {sorted(sample)}")
    image, mask = sample["image"], np.asarray(sample["mask"])
    shape = image.shape[:-1]
    if mask.ndim == len(shape):  # classes that exclude each other, or one
        first = 1 if classes == 1 else 0
        counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)[first : first + classes]
        foreground = (mask > 0 if background or classes == 1 else mask >= 0) & (mask < IGNORE_INDEX)
        counted = int((mask < IGNORE_INDEX).sum())
    else:  # (K, *S), each class a question of its own
        counts = (mask == 1).reshape(classes, -1).sum(1)
        foreground = (mask == 1).any(0)
        counted = int((mask < IGNORE_INDEX).any(0).sum())
    shows = bool(foreground.any())
    values = image[foreground] if shows else image.reshape(-1, image.shape[-1])
    step = max(1, len(values) // VOXELS_PER_CASE)
    lowest = image.min(axis=tuple(range(len(shape))))
    stored = sample["truth"].get("spacing", (1.0,) * len(shape))
    spacing = turned_sides(stored, sample["meta"].get("axes"))
    return _Case(shape, spacing, counts, counted, lowest, shows, values[::step])


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Class name to number of pixels (voxels); ignored ones are not counted.

    Of a binary set, "background" and the class; of a multi-label set, each class by itself.

    Args:
        dataset: Has semantic masks; images are not read where it has a method `mask` of its own.

    Raises:
        ValueError: If its samples have no mask.
    """
    described = dataset.describe()
    names, multilabel = described["names"], bool(described.get("multilabel"))
    columns = names if len(names) > 1 or multilabel else ["background", *names]
    counts = np.zeros(len(columns), dtype=np.int64)
    for index in tracked(range(len(dataset)), "counting pixels"):
        mask = as_dataset(dataset).mask(index)
        if multilabel:
            counts += (mask == 1).reshape(len(names), -1).sum(axis=1)
        else:
            pixels = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)
            counts += pixels[: len(columns)]
    return dict(zip(columns, counts.tolist(), strict=True))
