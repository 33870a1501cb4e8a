"""Pairs files of two folders by the part of their names that they share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from densekit._names import nearest
from densekit.data.reading.files import images_below, same_name

_log = logging.getLogger("densekit.data")

Affixes = tuple[str, str]
"""Prefix and suffix around the part of a file name that an image and its mask share."""


def has_affixes(stem: str, affixes: Affixes) -> bool:
    """Whether a name without suffix has prefix, suffix and something between them."""
    prefix, suffix = affixes
    long_enough = len(stem) > len(prefix) + len(suffix)
    return long_enough and stem.startswith(prefix) and stem.endswith(suffix)


def files_by_name(folder: Path, affixes: Affixes) -> dict[str, Path]:
    """Path below the folder, without prefix, suffix and extension, to the file."""
    found: dict[str, Path] = {}
    for path in map(folder.joinpath, images_below(folder)):
        if not has_affixes(path.stem, affixes):
            continue
        stem = path.stem.removeprefix(affixes[0]).removesuffix(affixes[1])
        name = same_name((path.relative_to(folder).parent / stem).as_posix())
        if name in found:
            raise ValueError(f"{folder}: expected one file per name, got {found[name]} and {path}")
        found[name] = path
    return found


def matched(images: Mapping[str, Path], folder: Path, affixes: Affixes, what: str) -> list[Path]:
    """The mask, or the region of interest, of each image.

    Args:
        images: Shared part of a name to the image, see `files_by_name`.
        folder: Folder of the masks.
        affixes: Prefix and suffix of their names.
        what: What they are, for messages.

    Raises:
        ValueError: If an image has none.
    """
    masks = files_by_name(folder, affixes)
    missing = [name for name in images if name not in masks]
    if missing:
        parent, _, stem = missing[0].rpartition("/")
        wanted = f"{parent}/{affixes[0]}{stem}{affixes[1]}.*".lstrip("/")
        raise ValueError(
            f"{folder}: expected {wanted} for {images[missing[0]]}, got none"
            f"{nearest(missing[0], masks)}; {len(missing)} of {len(images)} images have no {what}"
        )
    if spare := [path for name, path in masks.items() if name not in images]:
        _log.warning(
            "%s: skipped %d files (%s) without an image, e.g. %s",
            *(folder, len(spare), what, spare[0]),
        )
    return [masks[name] for name in images]
