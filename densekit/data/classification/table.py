"""A table with the class, or the labels, of each image.

N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.classification.dataset import PictureCategories, categories_of
from densekit.data.naming import check_names
from densekit.data.reading.files import existing_folder, existing_images
from densekit.data.reading.image_files import ImageFiles
from densekit.data.reading.images import ImageReader
from densekit.data.reading.tables import Row, check_filled, indices_of_split, read_table

_KEY = "ImageTable"
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class ImageTable(PictureCategories):
    """Images listed in a CSV or TSV file with a column of images and one of classes.

    A multi-label set has either several labels per cell of this column (`cat|dog`, an empty cell
    without any) or, instead of it, one column of 0 and 1 per label. Further columns are ignored.

    Args:
        root: Folder of the data set; paths in the table are relative to it.
        table: The file, relative to `root`.
        image: The column of the images.
        label: The column of the classes.
        separator: Separates the labels of an image; None if images have one class.
        columns: Columns of 0 and 1, one per label; instead of `label`.
        split: Use only rows with this value in the column `split`; the classes are those of all
            rows.
        names: Class names in the order of their labels; sorted by default, numbers in them
            numerically.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: Naming the line, for a missing file or column, an unknown class, or an image
            that is listed twice.
    """

    def __init__(
        self,
        root: str | Path,
        table: str,
        *,
        image: str = "image",
        label: str = "label",
        separator: str | None = None,
        columns: Sequence[str] | None = None,
        split: str | None = None,
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        if columns is not None and (names is not None or separator is not None):
            raise ValueError(
                f"{_KEY}: expected columns, which name the labels, or names and separator, got both"
            )
        folder = existing_folder(Path(root), f"{_KEY}.root")
        needed = [image, *(columns or [label]), *([] if split is None else ["split"])]
        rows = read_table(folder / table, f"{_KEY}.table", needed)
        names, categories = _categories(rows, label, separator, columns, names)
        kept = indices_of_split(rows, split, f"{_KEY}.split")
        images = _images([rows[index] for index in kept], image)
        images = existing_images(folder, images, str(folder / table))
        reader = ImageReader(channels, dtype, intensity)
        super().__init__(ImageFiles(folder, images, reader), names, categories[kept])


def _images(rows: Sequence[Row], column: str) -> list[str]:
    check_filled(rows, [column])
    seen: dict[str, str] = {}
    for where, row in rows:
        if row[column] in seen:
            raise ValueError(
                f"{where}: expected every image once, got {row[column]} as in {seen[row[column]]}"
            )
        seen[row[column]] = where
    return list(seen)


def _categories(
    rows: Sequence[Row],
    label: str,
    separator: str | None,
    columns: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[list[str], NDArray[Any]]:
    """K names, and (N,) classes or (N, K) labels."""
    if columns is not None:
        labels = [[_flag(row[name], where, name) for name in columns] for where, row in rows]
        return check_names(columns, f"{_KEY}.columns"), np.asarray(labels, dtype=np.int64)
    if separator is None:
        return categories_of([(where, row[label]) for where, row in rows], names, _KEY)
    cells = [
        (where, [part.strip() for part in row[label].split(separator) if part.strip()])
        for where, row in rows
    ]
    names, classes = categories_of(
        [(where, part) for where, parts in cells for part in parts], names, _KEY
    )
    multi_hot = np.zeros((len(rows), len(names)), dtype=np.int64)
    multi_hot[np.repeat(np.arange(len(rows)), [len(parts) for _, parts in cells]), classes] = 1
    return names, multi_hot


def _flag(cell: str, where: str, column: str) -> int:
    if cell.lower() not in _FLAGS:
        raise ValueError(f"{where}: {column}: expected 0 or 1, got {cell!r}")
    return _FLAGS[cell.lower()]
