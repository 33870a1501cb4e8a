"""Counts what each class has: objects, images, or masks that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from densekit.data.classification.dataset import CategoryDataset
from densekit.data.detection.dataset import BoxDataset
from densekit.data.fingerprint import spread
from densekit.data.medical.dataset import MedicalVolumes
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.data.segmentation.dataset import MaskDataset
from densekit.data.subset import unwrapped
from densekit.types import IGNORE_INDEX

MASKS_SHOW = "masks that show it"
MASKS = 100
"""Masks that are opened per split."""
VOLUMES = 10


@dataclass(frozen=True)
class Counts:
    """What the classes of the splits have.

    Attributes:
        unit: What is counted: "objects", "images" or `MASKS_SHOW`.
        by_split: Split to class to number; empty for data without classes.
        looked_at: Split to the number of images that were looked at; empty if all were.
        empty: Split to the number of masks that show only background, or nothing.
        broken: What is wrong with masks that could not be read.
    """

    unit: str
    by_split: Mapping[str, Mapping[str, int]]
    looked_at: Mapping[str, int]
    empty: Mapping[str, int]
    broken: tuple[str, ...] = ()


def count(splits: Mapping[str, Dataset]) -> Counts:
    """Counts the classes of each split."""
    kinds = {type_of(dataset) for dataset in splits.values()}
    if kinds == {"boxes"}:
        return Counts("objects", {s: _objects(d) for s, d in splits.items()}, {}, {})
    if kinds == {"classes"}:
        return Counts("images", {s: _images(d) for s, d in splits.items()}, {}, {})
    if kinds == {"masks"}:
        return _masks(splits)
    return Counts("images", {}, {}, {})


def type_of(dataset: Dataset) -> str:
    """What the classes of a data set are of: "boxes", "classes", "masks" or "" for none."""
    whole, _ = unwrapped(dataset)
    if isinstance(whole, BoxDataset):
        return "boxes"
    if isinstance(whole, CategoryDataset):
        return "classes"
    return "masks" if isinstance(whole, MaskDataset | MedicalVolumes) else ""


def _objects(dataset: Dataset) -> dict[str, int]:
    whole, images = unwrapped(dataset)
    assert isinstance(whole, BoxDataset)
    counts = whole.class_counts(images)
    return {name: counts[label] for label, name in enumerate(whole.names)}


def _images(dataset: Dataset) -> dict[str, int]:
    whole, images = unwrapped(dataset)
    assert isinstance(whole, CategoryDataset)
    names = [str(name) for name in whole.describe()["names"]]
    chosen = whole.categories[images]
    per_class = np.bincount(chosen, minlength=len(names)) if chosen.ndim == 1 else chosen.sum(0)
    return dict(zip(names, map(int, per_class), strict=True))


def _masks(splits: Mapping[str, Dataset]) -> Counts:
    found, looked_at, empty = {}, {}, {}
    broken: list[str] = []
    for split, dataset in splits.items():
        described = dataset.describe()
        names, background = list(described["names"]), bool(described.get("background"))
        seen, nothing = Counter[int](), 0
        volumes = described.get("spatial_dims", 2) == 3
        sample = spread(len(dataset), VOLUMES if volumes else MASKS)
        for index in tracked(sample, "looking at masks"):
            try:
                labels = _labels(dataset.mask(index), len(names), bool(described.get("multilabel")))
            except ValueError as error:
                broken.append(str(error))
                continue
            seen.update(labels)
            nothing += not (labels - {0} if background else labels)
        found[split] = {name: seen[label] for label, name in enumerate(names)}
        if len(sample) < len(dataset):
            looked_at[split] = len(sample)
        if nothing:
            empty[split] = nothing
    return Counts(MASKS_SHOW, found, looked_at, empty, tuple(broken))


def _labels(mask: np.ndarray, classes: int, multilabel: bool) -> set[int]:
    """The classes that a mask shows; of a binary one 0 if it shows the class."""
    if multilabel:
        return {channel for channel, plane in enumerate(mask) if (plane == 1).any()}
    present = {int(value) for value in np.unique(mask)} - {IGNORE_INDEX}
    return {0} & {value - 1 for value in present} if classes == 1 else present
