"""Measures a data set of masks: sizes, spacings, intensities, class frequencies.

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
"""Foreground voxels that are sampled per case for intensities (Isensee et al. 2021)."""


@dataclass(frozen=True)
class Fingerprint:
    """Measurements of a data set.

    Attributes:
        names: K class names, with the background first if there is one.
        background: Whether class 0 is the background.
        shapes: (N, D) sizes in voxels.
        spacings: (N, D) voxel spacings in millimetres, 1 where unknown.
        shares: (K,) fraction of each class among the voxels that are not ignored.
        present: (K,) number of cases in which each class occurs.
        modalities: What each channel is, empty if unknown.
        lowest: (C,) smallest stored value.
        percentiles: (C, 3) percentiles 0.5, 50 and 99.5 of the foreground's stored values.
        means: (C,) means of the foreground's stored values.
        stds: (C,) standard deviations of the foreground's stored values.
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
    """At most `limit` evenly spaced indices below `count`, always the same ones."""
    chosen = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))
    return [int(index) for index in chosen]


def fingerprint(dataset: Dataset, indices: Iterable[int]) -> Fingerprint:
    """Reads samples and measures them.

    Args:
        dataset: A data set of stored intensities and masks (no scaling, no resampling).
        indices: Indices of the samples to read.

    Raises:
        ValueError: If the samples have no mask.
    """
    described = dataset.describe()
    names, background = list(described["names"]), bool(described.get("background", False))
    cases = [_measured(dataset[index], len(names), background) for index in indices]
    counts = np.stack([case.counts for case in cases])
    # Background intensities count only if no case has any foreground.
    sampled = [case for case in cases if case.has_foreground] or cases
    values = np.concatenate([case.values for case in sampled])
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
    has_foreground: bool
    values: NDArray[Any]  # (n, C) sampled from the foreground, or from the whole image without one


def _measured(sample: Sample, classes: int, background: bool) -> _Case:
    if "mask" not in sample:
        raise ValueError(f"{sample['meta']['path']}: expected a mask, got {sorted(sample)}")
    image, mask = sample["image"], np.asarray(sample["mask"])
    shape = image.shape[:-1]
    if mask.ndim == len(shape):  # exclusive classes, or a single one
        first = 1 if classes == 1 else 0
        counts = np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)[first : first + classes]
        foreground = (mask > 0 if background or classes == 1 else mask >= 0) & (mask < IGNORE_INDEX)
        counted = int((mask < IGNORE_INDEX).sum())
    else:  # (K, *S), independent classes
        counts = (mask == 1).reshape(classes, -1).sum(1)
        foreground = (mask == 1).any(0)
        counted = int((mask < IGNORE_INDEX).any(0).sum())
    has_foreground = bool(foreground.any())
    values = image[foreground] if has_foreground else image.reshape(-1, image.shape[-1])
    step = max(1, len(values) // VOXELS_PER_CASE)
    lowest = image.min(axis=tuple(range(len(shape))))
    stored = sample["truth"].get("spacing", (1.0,) * len(shape))
    spacing = turned_sides(stored, sample["meta"].get("axes"))
    return _Case(shape, spacing, counts, counted, lowest, has_foreground, values[::step])


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Number of pixels (voxels) of each class name, without ignored ones.

    A binary data set has the keys "background" and the class; multi-label classes may overlap.

    Args:
        dataset: A data set of semantic masks; images are not read if it overrides `mask`.

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
