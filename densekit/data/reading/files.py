"""Finds the files of a folder, and checks before training that annotated files exist."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from densekit._names import nearest
from densekit._reading import check_regular
from densekit.data.reading.stacks import ARRAY_SUFFIXES
from densekit.data.reading.tables import read_text

_LONGEST = 300
"""Characters that are quoted of a library's message."""

IMAGE_SUFFIXES: tuple[str, ...] = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
)
IMAGE_SUFFIXES += (".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".avif")


def seen(name: str) -> bool:
    """Whether a file or folder is data; hidden ones belong to the system or to an editor."""
    return not name.startswith(".")


def same_name(name: str) -> str:
    """A name in Unicode's composed form (NFC); macOS stores the decomposed one."""
    return unicodedata.normalize("NFC", name)


def existing_folder(path: Path, key: str) -> Path:
    """Returns the folder if it exists.

    Args:
        path: The folder.
        key: The argument that named it, for the message.

    Raises:
        ValueError: If it does not exist; the message lists the deepest parent that does.
    """
    if path.is_dir():
        return path
    parent = next((p for p in path.parents if p.is_dir()), Path())
    inside = ", ".join(sorted(entry.name for entry in parent.iterdir())[:10]) or "nothing"
    raise ValueError(f"{key}: expected an existing folder, got {path}; {parent} holds {inside}")


def folders_in(root: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and seen(entry.name))


def images_below(root: Path, folder: str = "") -> list[str]:
    """Paths relative to `root` of the images below one of its folders; see `files_below`."""
    return files_below(root, (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES), folder)


def files_below(root: Path, suffixes: tuple[str, ...], folder: str = "") -> list[str]:
    """Paths relative to `root` of the files below one of its folders, at any depth.

    Numbers in names sort as numbers; hidden files and folders are skipped. Links are followed, but
    no folder is visited twice.
    """
    found: list[str] = []
    visited = set[str]()
    for current, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(current)
        if real in visited:  # a link back
            folders.clear()
            continue
        visited.add(real)
        folders[:] = filter(seen, folders)
        below = os.path.relpath(current, root)
        found += [
            os.path.normpath(os.path.join(below, name))  # noqa: PTH118 (Path is 10 times slower)
            for name in files
            if name.lower().endswith(suffixes) and seen(name)
        ]
    return sorted((name.replace(os.sep, "/") for name in found), key=natural)


def existing_images(
    root: Path, names: Sequence[str], source: str, what: str = "images"
) -> list[str]:
    """Checks that files exist and returns their names as the disk has them.

    Each folder is listed once, because 118k calls of `exists` take seconds.

    Args:
        root: Folder that the names are relative to.
        names: Image files.
        source: The file or key that names them, for the message.
        what: What they are, for the message.

    Returns:
        The names on disk, which may be in another form of Unicode.

    Raises:
        ValueError: If files are missing, with their number and the path of the first.
    """
    folders = {os.path.dirname(name) for name in names}  # noqa: PTH120 (Path is 10 times slower)
    listed = {folder: _folder(root, folder) for folder in folders}
    there = {
        os.path.join(actual, name)  # noqa: PTH118
        for actual in listed.values()
        for name in _listing(root / actual)
    }
    composed = {same_name(name): name for name in sorted(there)}
    found = []
    for name in names:
        plain = os.path.normpath(name)
        other = composed.get(same_name(plain), "")
        found.append(name if plain in there or os.path.isfile(root / name) else other)  # noqa: PTH113 (of any length)
    missing = [name for name, actual in zip(names, found, strict=True) if not actual]
    if missing:
        raise ValueError(
            f"{source}: expected existing {what}, got {len(missing)} of {len(names)} missing"
            f" (first: {root / missing[0]})"
        )
    return found


def _folder(root: Path, name: str) -> str:
    """The name of a folder as the disk has it."""
    if not name or (root / name).is_dir():
        return name
    parent, own = os.path.split(name)
    actual = _folder(root, parent)
    alike = (entry for entry in _listing(root / actual) if same_name(entry) == same_name(own))
    return os.path.join(actual, next(alike, own))  # noqa: PTH118


def images_by_stem(folder: Path) -> dict[str, list[str]]:
    """Maps each relative path without suffix to the image files below a folder that share it."""
    found: dict[str, list[str]] = {}
    for name in files_below(folder, IMAGE_SUFFIXES):
        found.setdefault(same_name(os.path.splitext(name)[0]), []).append(name)  # noqa: PTH122
    return found


def check_stems(stems: Sequence[str], by_stem: Container[str], folder: Path, source: str) -> None:
    """Refuses names that no image of the folder has.

    Raises:
        ValueError: If images are missing, with their number and the path of the first.
    """
    if missing := [stem for stem in stems if stem not in by_stem]:
        raise ValueError(
            f"{source}: expected existing images, got {len(missing)} of {len(stems)} missing"
            f" (first: {folder / (missing[0] + '.jpg')})"
        )


def only_image(files: Sequence[str], folder: Path, named: str = "") -> Path:
    """The image file of a name without suffix.

    Args:
        files: All files of that name, relative to the folder.
        folder: Folder of the images.
        named: The image file as the annotation names it, which decides between several.

    Raises:
        ValueError: If there are several and the annotation names none of them.
    """
    chosen = [
        name for name in files if same_name(Path(name).name) == same_name(Path(named).name)
    ] or files
    if len(chosen) > 1:
        raise ValueError(
            f"{folder / chosen[0]}: expected one image of this name, got {folder / chosen[1]} too,"
            " and the annotation names neither"
        )
    return folder / chosen[0]


def listed_stems(folder: Path, split: str, key: str, known: Container[str]) -> list[str]:
    """The image names that a VOC split file lists, in Unicode's composed form.

    Suffixes are dropped, and so is the second column that VOC's files per class have.

    Args:
        folder: Folder with the file `SPLIT.txt`.
        split: Name of the split.
        key: The argument that named it, for the message.
        known: Names of all images; they tell `scan (1)` from a name with a second column.

    Raises:
        ValueError: If there is no such file, or it lists an image twice.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        splits = sorted(entry.stem for entry in folder.glob("*.txt") if seen(entry.name))
        raise ValueError(f"{key}: expected an existing file, got {path}{nearest(split, splits)}")
    lines = read_text(path, key).splitlines()
    stems = [_stem(same_name(line.strip()), known) for line in lines if line.strip()]
    repeated = len(stems) - len(set(stems))
    if repeated:
        raise ValueError(f"{path}: expected every image once, got {repeated} repeated lines")
    return stems


def _stem(line: str, known: Container[str]) -> str:
    """The image name of a line of a split file, without suffix and second column."""
    first = re.sub(r"\s+-?[01]$", "", line)
    readings = [line, os.path.splitext(line)[0], first, os.path.splitext(first)[0]]  # noqa: PTH122
    return next((stem for stem in readings if stem in known), first)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts 2.png before 10.png."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _listing(folder: Path) -> Iterable[str]:
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises into one `ValueError` that names the file.

    Args:
        path: The file or folder; a `ValueError` that begins with it passes unchanged.
        what: What the file should be, for the message.

    Raises:
        ValueError: Instead of any error except that of a missing package.
    """
    try:
        if not path.is_dir():  # a series is a folder of files
            check_regular(path)
        yield
    except ImportError:  # a package of ours is missing
        raise
    # Damaged headers raise anything: zlib errors, overflows, singular matrices, MemoryError
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        # ITK's messages begin with a line of its own source
        cause = " ".join(str(error).rpartition("ERROR: ")[2].split())[:_LONGEST] or "no message"
        raise ValueError(
            f"{path}: expected a readable {what}, got {type(error).__name__}: {cause}"
        ) from error
