"""A table that says the class, or the labels, of each image.

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
from densekit.data.reading.tables import Row, check_filled, places_of_split, read_table

_KEY = "ImageTable"
_SWITCHES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class ImageTable(PictureCategories):
    """Images by a CSV or TSV file with a column `image` and one of classes.

    A multi-label set has either a separator in the cells of this column (`cat|dog`, empty without
    any) or, instead of it, a column of 0 and 1 a label. Further columns are left alone.

    Args:
        root: Folder of the data set; paths in the table are relative to it.
        table: The file, relative to `root`.
        label: The column of the classes.
        separator: What stands between the labels of an image; None if it has one class.
        columns: Columns of 0 and 1, the labels; instead of `label`.
        split: Only rows in whose column `split` this stands; the classes are those of all rows.
        names: Class names in the order of their labels; by default as they sort, numbers in them
            as numbers.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: For a missing file or column, an unknown class, an image that stands there
            twice; always with the line.
    """

    def __init__(
        self,
        root: str | Path,
        table: str,
        *,
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
            raise ValueError(f"{_KEY}: columns name the labels; names and separator do not go")
        folder = existing_folder(Path(root), f"{_KEY}.root")
        needed = ["image", *(columns or [label]), *([] if split is None else ["split"])]
        rows = read_table(folder / table, f"{_KEY}.table", needed)
        names, categories = _categories(rows, label, separator, columns, names)
        kept = places_of_split(rows, split, f"{_KEY}.split")
        images = _images([rows[place] for place in kept])
        images = existing_images(folder, images, str(folder / table))
        reader = ImageReader(channels, dtype, intensity)
        super().__init__(ImageFiles(folder, images, reader), names, categories[kept])


def _images(rows: Sequence[Row]) -> list[str]:
    check_filled(rows, ["image"])
    seen: dict[str, str] = {}
    for where, row in rows:
        if row["image"] in seen:
            raise ValueError(f"{where}: {row['image']} stands in {seen[row['image']]} too")
        seen[row["image"]] = where
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
        labels = [[_switch(row[name], where, name) for name in columns] for where, row in rows]
        return check_names(columns, f"{_KEY}.columns"), np.asarray(labels, dtype=np.int64)
    if separator is None:
        return categories_of([(where, row[label]) for where, row in rows], names, _KEY)
    said = [
        (where, [part.strip() for part in row[label].split(separator) if part.strip()])
        for where, row in rows
    ]
    names, places = categories_of(
        [(where, part) for where, parts in said for part in parts], names, _KEY
    )
    labels_of = np.zeros((len(rows), len(names)), dtype=np.int64)
    labels_of[np.repeat(np.arange(len(rows)), [len(parts) for _, parts in said]), places] = 1
    return names, labels_of


def _switch(cell: str, where: str, column: str) -> int:
    if cell.lower() not in _SWITCHES:
        raise ValueError(f"{where}: {column} is {cell!r}, accepted are 0 and 1")
    return _SWITCHES[cell.lower()]
