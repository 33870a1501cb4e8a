"""Images and masks paired by a list or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.naming import trimmed
from densekit.data.reading.files import existing_folder, existing_images
from densekit.data.reading.images import ImageReader
from densekit.data.reading.tables import check_filled, missing_column, read_table, read_text
from densekit.data.segmentation.class_table import class_file_folders
from densekit.data.segmentation.classes import declared_table, find_code
from densekit.data.segmentation.dataset import PairedMasks

_KEY = "MaskList"
_TABLES = (".csv", ".tsv")


class MaskList(PairedMasks):
    """Pairs listed in a file: lines `image mask`, or a CSV or TSV table with these columns.

    Further columns are ignored. A table without a column `mask` has one column per class, named as
    in `names`: a multi-label set with one file per class, and an empty cell where an image has
    nothing of it. Classes are determined as in `MaskFolder`.

    Args:
        root: Folder of the data set; paths in the list are relative to it.
        list_file: The list, relative to `root`.
        names: Class names in the order of their labels, or class names to stored values.
        colours: Class names to `[red, green, blue]`, for colour masks.
        ignore: Stored values (or colours) that are void.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: Naming the file, for a missing file, different sizes, or classes that do not fit
            the values.
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
        pairs = listed_masks(path, declared.names if declared else [])
        if not pairs:
            raise ValueError(f"{path}: expected pairs of image and mask, got none")
        images = existing_images(folder, [image for image, _ in pairs], str(path))
        files = [mask for _, masks in pairs for mask in masks if mask]
        found = dict(zip(files, existing_images(folder, files, str(path), "masks"), strict=True))
        rows = [[folder / found[mask] if mask else None for mask in masks] for _, masks in pairs]
        folders = class_file_folders(folder, (folder / files[0]).parent) if files else []
        super().__init__(
            [folder / image for image in images],
            rows,
            find_code(rows, declared, ignore, folders, _KEY),
            ImageReader(channels, dtype, intensity),
        )


def listed_masks(path: Path, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The image and the masks of every row."""
    if path.suffix.lower() in _TABLES:
        return _table(path, names)
    return [
        _pair(line, f"{path}, line {number}")
        for number, line in enumerate(read_text(path, f"{_KEY}.list_file").splitlines(), start=1)
        if trimmed(line)
    ]


def _pair(line: str, where: str) -> tuple[str, list[str]]:
    """The image and the mask of a line, separated by a tab, else a comma, else spaces."""
    divider = next((sign for sign in ("\t", ",") if sign in line), None)
    parts = [trimmed(part) for part in trimmed(line).split(divider)]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"{where}: expected an image and a mask, got {line.strip()!r}")
    return parts[0], [parts[1]]


def _table(path: Path, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    rows = read_table(path, f"{_KEY}.list_file", ["image"])
    header = list(rows[0][1])
    columns = ["mask"] if "mask" in header else list(names)
    for column in columns or ["mask"]:
        if column not in header:
            raise ValueError(missing_column(path, column, header))
    check_filled(rows, ["image", *(["mask"] if columns == ["mask"] else [])])
    return [(row["image"], [row[column] for column in columns]) for _, row in rows]
