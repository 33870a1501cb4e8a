"""A list or a table that says which mask belongs to which image."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.class_table import between
from densekit.data.files import check_images, existing_folder
from densekit.data.images import ImageReader
from densekit.data.mask_classes import declared_table, find_code
from densekit.data.masks import PairedMasks
from densekit.data.naming import nearest

_KEY = "MaskList"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class MaskList(PairedMasks):
    """Pairs by a file: lines `image mask`, or a CSV or TSV table with columns of these names.

    Further columns are left alone. A table without a column `mask` has one a class, called as in
    `names`: a multi-label set with a file a class, an empty cell where an image has nothing of it.
    Classes are found as `MaskFolder` finds them.

    Args:
        root: Folder of the data set; paths in the list are relative to it.
        list_file: The list, relative to `root`.
        names: Class names in the order of their labels, or class names to stored values.
        colours: Class names to `[red, green, blue]`, for masks of colours.
        ignore: Stored values (or colours) that are void.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: For a missing file, differing sizes, classes that do not fit the values; always
            with the file.
    """

    def __init__(
        self,
        root: str | Path,
        list_file: str,
        *,
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        folder = existing_folder(Path(root), f"{_KEY}.root")
        path = folder / list_file
        declared = declared_table(names, colours, _KEY)
        pairs = _read(path, declared.names if declared else [])
        if not pairs:
            raise ValueError(f"{path}: no pair of image and mask in it")
        check_images(folder, [image for image, _ in pairs], str(path))
        files = [mask for _, masks in pairs for mask in masks if mask]
        check_images(folder, files, str(path), "masks")
        rows = [[folder / mask if mask else None for mask in masks] for _, masks in pairs]
        folders = between(folder, (folder / files[0]).parent) if files else []
        super().__init__(
            [folder / image for image, _ in pairs],
            rows,
            find_code(rows, declared, ignore, folders, _KEY),
            ImageReader(channels, dtype, intensity),
        )


def _read(path: Path, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Image and masks of every row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = [entry.name for entry in path.parent.glob("*.[tc]*")]
        raise ValueError(
            f"{_KEY}.list_file: no file {path}; {nearest(path.name, beside)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file: {error}") from error
    delimiter = _DELIMITERS.get(path.suffix.lower())
    if delimiter is not None:
        return _table(path, text, delimiter, names)
    return [
        _pair(line, f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _pair(line: str, where: str) -> tuple[str, list[str]]:
    """Columns divided by a tab, else a comma, else blanks."""
    divider = next((sign for sign in ("\t", ",") if sign in line), None)
    parts = [part.strip() for part in line.strip().split(divider)]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"{where}: an image and a mask are needed, found {line.strip()!r}")
    return parts[0], [parts[1]]


def _table(
    path: Path, text: str, delimiter: str, names: Sequence[str]
) -> list[tuple[str, list[str]]]:
    table = csv.DictReader(text.splitlines(), delimiter=delimiter)
    header = list(table.fieldnames or ())
    columns = ["mask"] if "mask" in header else list(names)
    if missing := [column for column in ("image", *columns) if column not in header] or (
        [] if columns else ["mask"]
    ):
        raise ValueError(f"{path}: no column {missing[0]!r}; {nearest(missing[0], header)}")
    pairs = []
    for number, row in enumerate(table, start=2):
        cells = [(row[column] or "").strip() for column in ("image", *columns)]
        if not cells[0] or (columns == ["mask"] and not cells[1]):
            raise ValueError(f"{path}, line {number}: an image and a mask are needed")
        pairs.append((cells[0], cells[1:]))
    return pairs
