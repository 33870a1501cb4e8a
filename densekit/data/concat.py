"""Several data sets of the same classes as one, e.g. two cities, or real and rendered images.

N images, S the sizes of an image, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Dataset, Origin, StoredMasks, array_of, as_dataset
from densekit.types import Sample, Truth

OWN_KEYS = ("names", "ids", "mean", "std")
"""Keys of a description in which parts may differ: the classes of all are in the first's order."""


class Concat(Dataset):
    """The images of several data sets of the same classes, one after the other.

    Classes are matched by name: they may have other numbers in each part, and get those of the
    first. `Shares` draws the parts in given proportions. Ids of images are their positions, as the
    ids of several files overlap; evaluate each part on its own (`data=[a,b]`) to keep its ids.

    Args:
        parts: The data sets by names of your choice.

    Raises:
        ValueError: If there are no parts, they hold identities, or differ in classes, channels,
            kind of masks or targets of plug-ins.
    """

    def __init__(self, parts: Mapping[str, Dataset]) -> None:
        if not parts:
            raise ValueError("Concat.parts: expected at least one data set, got none")
        self.names = list(parts)
        self.parts = [as_dataset(part, f"Concat.parts.{name}") for name, part in parts.items()]
        self.ends = np.cumsum([len(part) for part in self.parts])
        first = self.parts[0]
        self.target_specs = first.target_specs
        self.modalities = first.modalities
        self.reads_files = any(part.reads_files for part in self.parts)
        self._described = first.describe()
        self._tables = [self._table(*named) for named in zip(self.names, self.parts, strict=True)]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def describe(self) -> dict[str, Any]:
        """The description of the first part."""
        return dict(self._described)

    def part_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the part of each image."""
        return np.searchsorted(self.ends, indices, side="right")

    def __getitem__(self, index: int) -> Sample:
        """The sample of a part, with the labels of the first part."""
        part, own = self._find(index)
        sample = self.parts[part][own].copy()
        sample["index"] = index
        sample["meta"] = {**sample["meta"], "image_id": index}
        relabel = self._relabel(part)
        targets: list[Any] = [sample]
        if "truth" in sample:
            sample["truth"] = Truth(**{**sample["truth"], "image_id": index})
            targets.append(sample["truth"])
        for target in targets:
            for key, change in relabel.items():
                if key in target:
                    target[key] = change(target[key])
        return sample

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, D) sides of every image."""
        return np.concatenate([np.asarray(part.sizes) for part in self.parts])

    @property
    def keys(self) -> NDArray[np.bytes_] | None:
        """(N,) key that equal images share; None if a part has none."""
        keys = [array_of(part, "keys") for part in self.parts]
        known = [key for key in keys if key is not None]
        return np.concatenate(known) if len(known) == len(keys) else None

    def path(self, index: int) -> Path | None:
        """The file of an image, if it has one."""
        part, own = self._find(index)
        return self.parts[part].path(own)

    def mask(self, index: int) -> NDArray[Any]:
        """The mask of an image."""
        part, own = self._find(index)
        mask: NDArray[Any] = self._relabel(part)["mask"](self.parts[part].mask(own))
        return mask

    def stored_masks(self) -> StoredMasks | None:
        """The masks of all parts, None if those of a part need their images."""
        masks = [part.stored_masks() for part in self.parts]
        known = [stored for stored in masks if stored is not None]
        if len(known) < len(masks):
            return None
        counts = [int(stored.of_image.max(initial=-1)) + 1 for stored in known]
        starts = np.cumsum([0, *counts])

        def read(number: int) -> NDArray[Any]:
            part = int(np.searchsorted(starts, number, side="right")) - 1
            mask = known[part].read(int(number - starts[part]))
            relabelled: NDArray[Any] = self._relabel(part)["mask"](mask)
            return relabelled

        numbers = zip(known, starts[:-1], strict=True)
        return StoredMasks(read, np.concatenate([stored.of_image + n for stored, n in numbers]))

    def labels_in(self, index: int) -> NDArray[np.int64]:
        """The labels of the classes that an image shows."""
        part, own = self._find(index)
        found: NDArray[np.int64] = self._tables[part][self.parts[part].labels_in(own)]
        return found

    def origin(self, index: int) -> Origin | None:
        """The files of an image and how they are read."""
        part, own = self._find(index)
        return self.parts[part].origin(own)

    def read(self, index: int) -> NDArray[Any]:
        """Reads every file of an image and returns the image."""
        part, own = self._find(index)
        return self.parts[part].read(own)

    def _find(self, index: int) -> tuple[int, int]:
        """The number of the part of an image, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        part = int(self.part_of(np.asarray(index)))
        return part, int(index - (self.ends[part - 1] if part else 0))

    def _table(self, name: str, part: Dataset) -> NDArray[np.int64]:
        """(K,) the common label of each label of a part, after checking that the part fits."""
        described, key = part.describe(), f"Concat.parts.{name}"
        _check_alike(key, self._described, described)
        if part.target_specs != self.target_specs:
            raise ValueError(
                f"{key}: expected the targets {sorted(self.target_specs)} of {self.names[0]} in"
                f" `extra`, got {sorted(part.target_specs)}"
            )
        common = {label: number for number, label in enumerate(self._described["names"])}
        table = np.asarray([common[label] for label in described["names"]])
        if described.get("background") and table[0] != 0:
            raise ValueError(
                f"{key}: expected the background {self._described['names'][0]!r} of"
                f" {self.names[0]} as class 0, got {described['names'][0]!r}"
            )
        return table

    def _relabel(self, part: int) -> dict[str, Callable[[NDArray[Any]], NDArray[Any]]]:
        """What changes each target of a part."""
        table = self._tables[part]
        order = np.argsort(table)
        pixels = np.arange(256, dtype=np.uint8)
        if len(table) > 1:  # of one class, masks store 1
            pixels[: len(table)] = table
        multilabel = bool(self._described.get("multilabel"))
        return {
            "labels": lambda labels: table[labels],
            "category": lambda value: value[order] if value.ndim else table[value],
            "mask": lambda mask: mask[order] if multilabel else pixels[mask],
        }


def _check_alike(key: str, first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises unless two descriptions name the same classes and agree in all else."""
    if "names" not in other or "num_identities" in other:
        raise ValueError(f"{key}: expected data with named classes, got {sorted(other)}")
    missing = [name for name in first["names"] if name not in other["names"]]
    further = [name for name in other["names"] if name not in first["names"]]
    if missing or further:
        raise ValueError(
            f"{key}: expected the classes of the first part, got a difference: only the first has"
            f" {missing[:10]}, only this one has {further[:10]}; give both the same `names` if"
            " their annotations do not contain the same classes"
        )
    for name in sorted({*first, *other} - {*OWN_KEYS}):
        if first.get(name) != other.get(name):
            raise ValueError(
                f"{key}: expected the {name} {first.get(name)} of the first part, got"
                f" {other.get(name)}"
            )
