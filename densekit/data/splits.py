"""Divides images into train, val and test by their names alone."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from densekit._names import unknown
from densekit.data.naming import same_words, say_lookalikes
from densekit.data.protocols import Dataset, array_of, as_dataset
from densekit.data.reading.files import natural
from densekit.data.subset import Subset, unwrapped
from densekit.types import Sample

SPLITS = ("train", "val", "test")


class SplitRule:
    """Holds out images for evaluation, keeping each group (a patient, a video) in one split.

    The held-out groups form the split `test`. Every `val_every`-th of the others is in `val`, which
    selects checkpoints; without `val_every`, `val` is the held-out split too, which then must not
    be used to select them.

    Args:
        every: Holds out groups 1, 1 + every, 1 + 2 * every, ... in the order of their names, in
            which numbers sort as numbers.
        folds: Instead, divides the groups into this number of folds of equal size (by a hash of the
            name, so that neighbours in time are separated).
        fold: The fold that is held out, from 0.
        val_every: See above.
        group: Regular expression whose first capture group, in the name of a case or the path of an
            image, names the group, e.g. `patient([0-9]+)`. By default each image is its own group.

    Raises:
        ValueError: Unless exactly one of `every` and `folds` is given, or a number is too small.
    """

    def __init__(
        self,
        every: int | None = None,
        folds: int | None = None,
        fold: int = 0,
        val_every: int | None = None,
        group: str = "(.+)",
    ) -> None:
        if (every is None) == (folds is None):
            given = "neither" if every is None else "both"
            raise ValueError(f"SplitRule: expected one of `every` and `folds`, got {given}")
        for key, number in (("every", every), ("folds", folds), ("val_every", val_every)):
            if number is not None and number < 2:
                raise ValueError(f"SplitRule.{key}: expected at least 2, got {number}")
        if folds is not None and not 0 <= fold < folds:
            raise ValueError(f"SplitRule.fold: expected 0 to {folds - 1}, got {fold}")
        try:
            self._pattern = re.compile(group)
        except re.error as error:
            raise ValueError(
                f"SplitRule.group: expected a regular expression, got {group!r}: {error}"
            ) from error
        if self._pattern.groups < 1:
            raise ValueError(f"SplitRule.group: expected a group in brackets ( ), got {group!r}")
        self._every, self._folds, self._fold, self._val_every = every, folds, fold, val_every

    def group_of(self, name: str) -> str:
        """The group of a case or an image.

        Raises:
            ValueError: If the pattern does not match its name.
        """
        match = self._pattern.search(name)
        if match is None or not match[1]:
            raise ValueError(
                f"SplitRule.group: expected {self._pattern.pattern!r} in every name, got {name!r}"
            )
        return match[1]

    def members(self, split: str, groups: Sequence[str]) -> list[int]:
        """Positions of the images of a split, in order.

        Groups whose names look alike are one group: `P1` and `P1 `, `1` and `1.0`.

        Args:
            split: "train", "val", "test" or "all".
            groups: The group of each image.

        Raises:
            ValueError: If the split does not exist or is empty.
        """
        if split not in (*SPLITS, "all"):
            raise ValueError(unknown("split", split, [*SPLITS, "all"]))
        groups = same_words(groups)
        say_lookalikes(groups, "SplitRule: groups")
        members = self._groups(split, sorted(set(groups), key=natural))
        chosen = [i for i, group in enumerate(groups) if group in members]
        if not chosen:
            raise ValueError(f"split {split!r}: expected a group, got none of {len(set(groups))}")
        return chosen

    def _groups(self, split: str, names: Sequence[str]) -> set[str]:
        if split == "all":
            return set(names)
        test = set(names[:: self._every] if self._folds is None else self._in_fold(names))
        rest = [name for name in names if name not in test]
        val = test if self._val_every is None else set(rest[:: self._val_every])
        return {"train": set(rest) - val, "val": val, "test": test}[split]

    def _in_fold(self, names: Sequence[str]) -> Sequence[str]:
        shuffled = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        return shuffled[self._fold :: self._folds]


class Split(Subset):
    """The images of one split.

    Args:
        data: The whole data set.
        split: "train", "val", "test" or "all".
        splits: Decides which group is in which split. Groups are matched in the image paths
            relative to their common folder, so that the location of the data does not matter.
            Series and images without a file are named by their `keys`, so that equal ones stay
            together, else by their numbers; slices by the path of their volume.

    Raises:
        ValueError: If the split does not exist or is empty, or a path has no group.
    """

    def __init__(self, data: Dataset, split: str, splits: SplitRule) -> None:
        groups = [splits.group_of(name) for name in _names(as_dataset(data))]
        chosen = splits.members(split, groups)
        super().__init__(data, chosen)
        self._groups = [groups[position] for position in chosen]

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position of the split, with its group in the ground truth."""
        sample = super().__getitem__(index)
        if "truth" in sample:
            sample["truth"] = {**sample["truth"], "group": self._groups[index]}
        return sample


def _names(data: Dataset) -> list[str]:
    whole, positions = unwrapped(data)  # repeats of an image have its name
    names = _paths(whole) or _keys(whole) or [str(index) for index in range(len(whole))]
    return [names[position] for position in positions]


def _paths(data: Dataset) -> list[str]:
    """The image paths relative to their common folder; empty if an image has no file."""
    every = [data.path(index) for index in range(len(data))]
    paths = [path.absolute() for path in every if path is not None]
    if len(paths) < len(every):
        return []
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]


def _keys(data: Dataset) -> list[str]:
    keys = array_of(data, "keys")
    return [] if keys is None else [str(key.decode()) for key in keys]
