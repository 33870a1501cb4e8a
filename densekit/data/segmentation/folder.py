"""A folder of images and a folder of masks of the same names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._names import nearest
from densekit.data.reading.files import existing_folder, images_below, same_name
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.class_table import between
from densekit.data.segmentation.classes import declared_table, find_code
from densekit.data.segmentation.dataset import PairedMasks

_log = logging.getLogger("densekit.data")
_KEY = "MaskFolder"

Affixes = tuple[str, str]
"""What a name has before and after the part that an image and its mask share."""


class MaskFolder(PairedMasks):
    """Images and masks paired by name, sub-folders included: `a/12.jpg` with `a/12.png`.

    Numbers in names are sorted as numbers. Class names come from `names` or `colours`, else from a
    file beside the masks (`classes.txt`, `classes.json`, `labels.txt`, `labelmap.txt`,
    `class_dict.csv`), else from the stored values, with a warning. With one name, masks are binary:
    0 and 1, or 0 and 255. Stored 255 is ignored unless it is a class.

    Args:
        images: Folder of the images.
        masks: Folder of the masks; or class names to folders, for multi-label masks with a file a
            class.
        image_prefix: What an image's name has before the common part, e.g. `img_`.
        image_suffix: What it has after it, e.g. `_leftImg8bit`.
        mask_prefix: Likewise, of a mask.
        mask_suffix: Likewise, e.g. `_mask`.
        roi: Folder of masks of the region of interest (the field of view of a camera), paired as
            the masks are: where they are 0, pixels are ignored by losses and metrics.
        roi_suffix: What their names have after the common part.
        names: Class names in the order of their labels, or class names to stored values. One
            class, say `{membrane: 0}`, makes a binary data set of that value against the other.
        colours: Class names to `[red, green, blue]`, for masks of colours.
        ignore: Stored values (or colours) that are void.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: For an image without a mask, differing sizes, classes that do not fit the
            values; always with the file.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path | Mapping[str, str | Path],
        *,
        image_prefix: str = "",
        image_suffix: str = "",
        mask_prefix: str = "",
        mask_suffix: str = "",
        roi: str | Path | None = None,
        roi_suffix: str = "",
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        for affix in (image_prefix, image_suffix, mask_prefix, mask_suffix, roi_suffix):
            if not isinstance(affix, str):
                raise TypeError(
                    f"{_KEY}: expected part of a name, in quotes in YAML, got {affix!r}"
                )
        folder = existing_folder(Path(images), f"{_KEY}.images")
        if isinstance(masks, Mapping):
            if names is not None:
                raise ValueError(f"{_KEY}: masks name the classes, names must not be given too")
            names, folders = list(masks), [Path(path) for path in masks.values()]
        else:
            folders = [Path(masks)]
        for mask_folder in folders:
            existing_folder(mask_folder, f"{_KEY}.masks")
        named, of_mask = (image_prefix, image_suffix), (mask_prefix, mask_suffix)
        of_roi = ("", roi_suffix)
        pictures = _by_name(folder, named)
        others = [(path, of_mask) for path in folders]
        others += [] if roi is None else [(existing_folder(Path(roi), f"{_KEY}.roi"), of_roi)]
        for path, affixes in others:
            if any(affixes) and path.samefile(folder):
                pictures = {n: p for n, p in pictures.items() if not _has(p.stem, affixes)}
        if not pictures:
            wanted = f"{image_prefix}*{image_suffix}.*"
            raise ValueError(f"{_KEY}.images: no image named {wanted} in {folder}")
        columns = [_matched(pictures, path, of_mask, "mask") for path in folders]
        rows = [list(row) for row in zip(*columns, strict=True)]
        declared = declared_table(names, colours, _KEY)
        code = find_code(rows, declared, ignore, between(folder, folders[0]), _KEY)
        super().__init__(
            list(pictures.values()),
            rows,
            code,
            ImageReader(channels, dtype, intensity),
            None if roi is None else _matched(pictures, Path(roi), of_roi, "roi"),
        )


def _has(stem: str, affixes: Affixes) -> bool:
    prefix, suffix = affixes
    long_enough = len(stem) > len(prefix) + len(suffix)
    return long_enough and stem.startswith(prefix) and stem.endswith(suffix)


def _by_name(folder: Path, affixes: Affixes) -> dict[str, Path]:
    """Path below the folder, with the common part of the name alone, to the file."""
    found: dict[str, Path] = {}
    for path in map(folder.joinpath, images_below(folder)):
        if not _has(path.stem, affixes):
            continue
        stem = path.stem.removeprefix(affixes[0]).removesuffix(affixes[1])
        name = same_name((path.relative_to(folder).parent / stem).as_posix())
        if name in found:
            raise ValueError(f"{found[name]} and {path}: two files of one name")
        found[name] = path
    return found


def _matched(pictures: Mapping[str, Path], folder: Path, affixes: Affixes, what: str) -> list[Path]:
    """The mask, or the region of interest, of each image."""
    masks = _by_name(folder, affixes)
    missing = [name for name in pictures if name not in masks]
    if missing:
        place, _, stem = missing[0].rpartition("/")
        wanted = f"{place}/{affixes[0]}{stem}{affixes[1]}.*".lstrip("/")
        raise ValueError(
            f"{folder}: {len(missing)} of {len(pictures)} images have no {what}, the first is"
            f" {pictures[missing[0]]}: expected {wanted}{nearest(missing[0], masks)}"
        )
    if spare := [path for name, path in masks.items() if name not in pictures]:
        _log.warning(
            "%s: %d files (%s) without an image, left out: %s", folder, len(spare), what, spare[0]
        )
    return [masks[name] for name in pictures]
