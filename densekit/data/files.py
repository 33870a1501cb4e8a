"""Files that annotations speak of: are they there, all of them, before the first epoch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from densekit.data.naming import nearest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def existing_folder(path: Path, key: str) -> Path:
    """The folder itself.

    Args:
        path: The folder.
        key: The argument that named it, for the message.

    Raises:
        ValueError: If it does not exist, with the deepest parent that does.
    """
    if path.is_dir():
        return path
    parent = next((p for p in path.parents if p.is_dir()), Path())
    inside = ", ".join(sorted(entry.name for entry in parent.iterdir())[:10]) or "nothing"
    raise ValueError(f"{key}: no folder {path}; {parent} holds {inside}")


def check_images(root: Path, names: Sequence[str], said_by: str, what: str = "images") -> None:
    """Lists each folder once (118k calls of `exists` take seconds) and compares.

    Args:
        root: Folder that the names are relative to.
        names: Image files.
        said_by: Who names them, for the message.
        what: What they are, for the message.

    Raises:
        ValueError: With the number of missing files and the path of the first.
    """
    folders = {os.path.dirname(name) for name in names}  # noqa: PTH120 (Path is 10 times slower)
    present = {
        os.path.join(folder, name)  # noqa: PTH118
        for folder in folders
        for name in _listing(root / folder)
    }
    missing = [name for name in names if os.path.normpath(name) not in present]
    missing = [name for name in missing if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"{said_by}: {len(missing)} of {len(names)} {what} are missing, the first is"
            f" {root / missing[0]}"
        )


def images_by_stem(folder: Path) -> dict[str, str]:
    """File name without suffix to the file name, of every image in a folder."""
    return {
        os.path.splitext(name)[0]: name  # noqa: PTH122
        for name in sorted(_listing(folder))
        if name.lower().endswith(IMAGE_SUFFIXES)
    }


def listed_stems(folder: Path, split: str, key: str) -> list[str]:
    """The image names of a VOC split; a second column, as in files of one class, is dropped.

    Args:
        folder: Holds a file `SPLIT.txt`.
        split: Its name.
        key: The argument that named it, for the message.

    Raises:
        ValueError: If there is no such file, or an image stands in it twice.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        splits = sorted(entry.stem for entry in folder.glob("*.txt"))
        raise ValueError(f"{key}: no file {path}; {nearest(split, splits)}")
    stems = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    repeated = len(stems) - len(set(stems))
    if repeated:
        raise ValueError(f"{path}: {repeated} images stand there more than once")
    return stems


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _listing(folder: Path) -> Iterable[str]:
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208
