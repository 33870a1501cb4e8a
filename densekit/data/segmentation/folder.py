"""A folder of images and a folder of masks, paired by file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.reading.files import existing_folder
from densekit.data.reading.images import ImageReader
from densekit.data.reading.pairs import files_by_name, has_affixes, matched
from densekit.data.segmentation.class_table import class_file_folders
from densekit.data.segmentation.classes import declared_table, find_code
from densekit.data.segmentation.dataset import PairedMasks

_KEY = "MaskFolder"


class MaskFolder(PairedMasks):
    """Images and masks paired by name, including sub-folders: `a/12.jpg` with `a/12.png`.

    Numbers in names are sorted numerically. Class names come from `names` or `colours`, else from a
    file beside the masks (`classes.txt`, `classes.json`, `labels.txt`, `labelmap.txt`,
    `class_dict.csv`), else from the stored values, with a warning. With one name, masks are binary:
    0 and 1, or 0 and 255. A stored 255 is ignored unless it is a class.

    Args:
        images: Folder of the images.
        masks: Folder of the masks; or class names to folders, for multi-label masks with one file
            per class.
        image_prefix: Part of an image's name before the common part, e.g. `img_`.
        image_suffix: Part after it, e.g. `_leftImg8bit`.
        mask_prefix: The same for masks.
        mask_suffix: The same for masks, e.g. `_mask`.
        roi: Folder of masks of the region of interest (the field of view of a camera), paired like
            the masks; losses and metrics ignore pixels where they are 0.
        roi_suffix: Part of their names after the common part.
        names: Class names in the order of their labels, or class names to stored values. One
            class, e.g. `{membrane: 0}`, makes the masks binary: that value against the other.
        colours: Class names to `[red, green, blue]`, for colour masks.
        ignore: Stored values (or colours) that are void.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: Naming the file, for an image without a mask, different sizes, or classes that
            do not fit the values.
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
                    f"{_KEY}: expected a prefix or suffix in quotes (YAML), got {affix!r}"
                )
        folder = existing_folder(Path(images), f"{_KEY}.images")
        if isinstance(masks, Mapping):
            if names is not None:
                raise ValueError(f"{_KEY}: expected `names` or class names in `masks`, got both")
            names, folders = list(masks), [Path(path) for path in masks.values()]
        else:
            folders = [Path(masks)]
        for mask_folder in folders:
            existing_folder(mask_folder, f"{_KEY}.masks")
        image_affixes, mask_affixes = (image_prefix, image_suffix), (mask_prefix, mask_suffix)
        roi_affixes = ("", roi_suffix)
        by_name = files_by_name(folder, image_affixes)
        others = [(path, mask_affixes) for path in folders]
        others += [] if roi is None else [(existing_folder(Path(roi), f"{_KEY}.roi"), roi_affixes)]
        for path, affixes in others:
            if any(affixes) and path.samefile(folder):
                by_name = {n: p for n, p in by_name.items() if not has_affixes(p.stem, affixes)}
        if not by_name:
            wanted = f"{image_prefix}*{image_suffix}.*"
            raise ValueError(f"{_KEY}.images: expected images {wanted} in {folder}, got none")
        columns = [matched(by_name, path, mask_affixes, "mask") for path in folders]
        rows = [list(row) for row in zip(*columns, strict=True)]
        declared = declared_table(names, colours, _KEY)
        code = find_code(rows, declared, ignore, class_file_folders(folder, folders[0]), _KEY)
        super().__init__(
            list(by_name.values()),
            rows,
            code,
            ImageReader(channels, dtype, intensity),
            None if roi is None else matched(by_name, Path(roi), roi_affixes, "roi"),
        )
