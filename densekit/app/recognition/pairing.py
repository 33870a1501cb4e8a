"""Finds what the names of images and of their masks have in common."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

DIGITS = "0123456789"
TRIED = 20
"""Most affixes that are tried."""


@dataclass(frozen=True)
class Affixes:
    """What stands around the common part of the names; the arguments of `MaskFolder`."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""

    @property
    def given(self) -> dict[str, str]:
        """Those that are not empty."""
        return {key: value for key, value in vars(self).items() if value}


def find_affixes(images: Collection[str], masks: Collection[str]) -> tuple[Affixes, int]:
    """The affixes that pair most files, and how many they pair.

    Args:
        images: Paths of the images, without suffix.
        masks: Likewise, relative to their own folder.
    """
    if not images or not masks:
        return Affixes(), 0
    shared, first = _shared(images, masks), min(sorted(images), key=len)
    own = Affixes(shared.image_prefix, shared.image_suffix)
    tried = dict.fromkeys(
        [Affixes(), *_around(first, masks, Affixes()), *_around(first, masks, own)]
    )
    tried[shared] = None
    counts = {affixes: len(paired(images, masks, affixes)) for affixes in tried}
    best = max(counts, key=lambda affixes: counts[affixes])
    return best, counts[best]


def paired(images: Collection[str], masks: Collection[str], affixes: Affixes) -> set[str]:
    """The paths, without affixes, that an image and a mask share."""
    own = _without(images, affixes.image_prefix, affixes.image_suffix)
    return own & _without(masks, affixes.mask_prefix, affixes.mask_suffix)


def _around(image: str, masks: Collection[str], own: Affixes) -> list[Affixes]:
    """The affixes of the masks whose name contains that of an image: 7 and 7_mask.

    Of several kinds of masks, those of class numbers come first, then in the order of names.
    """
    before, after = own.image_prefix, own.image_suffix
    core = _name(image).removeprefix(before).removesuffix(after)
    parts = {_name(mask).partition(core) for mask in masks if core}
    ends = sorted(
        (("label" not in end.lower(), start, end) for start, there, end in parts if there)
    )
    return [Affixes(before, after, start, end) for _, start, end in ends][:TRIED]


def _shared(images: Collection[str], masks: Collection[str]) -> Affixes:
    """The beginnings and ends that all images share, and all masks, up to their numbers."""
    found = []
    for names in ([*map(_name, images)], [*map(_name, masks)]):
        end = os.path.commonprefix([name[::-1] for name in names])[::-1]
        found += [os.path.commonprefix(names).rstrip(DIGITS), end.lstrip(DIGITS)]
    return Affixes(*found)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _without(paths: Collection[str], prefix: str, suffix: str) -> set[str]:
    found = set()
    for path in paths:
        folder, slash, name = path.rpartition("/")
        long_enough = len(name) > len(prefix) + len(suffix)
        if long_enough and name.startswith(prefix) and name.endswith(suffix):
            found.add(f"{folder}{slash}{name[len(prefix) : len(name) - len(suffix)]}")
    return found
