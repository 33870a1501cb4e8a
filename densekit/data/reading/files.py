"""Files that annotations speak of: are they there, all of them, before the first epoch."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from densekit._names import nearest
from densekit.data.reading.stacks import ARRAY_SUFFIXES
from densekit.data.reading.tables import read_text

_LONGEST = 300
"""Letters of a library's message."""

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
    """Whether a file or folder is data: what begins with a dot is a system's or an editor's."""
    return not name.startswith(".")


def same_name(name: str) -> str:
    """A name in the composed form of Unicode, of which macOS stores the decomposed one."""
    return unicodedata.normalize("NFC", name)


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


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a folder; those that begin with a dot are left alone."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and seen(entry.name))


def images_below(root: Path, folder: str = "") -> list[str]:
    """Names below `root` of the images in one of its folders; see `files_below`."""
    return files_below(root, (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES), folder)


def files_below(root: Path, suffixes: tuple[str, ...], folder: str = "") -> list[str]:
    """Names below `root` of the files in one of its folders and in the folders of that.

    Numbers in names are sorted as numbers; names that begin with a dot are left alone. Links are
    followed, each folder once.
    """
    found: list[str] = []
    walked = set[str]()
    for place, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(place)
        if real in walked:  # a link back
            folders.clear()
            continue
        walked.add(real)
        folders[:] = filter(seen, folders)
        below = os.path.relpath(place, root)
        found += [
            os.path.normpath(os.path.join(below, name))  # noqa: PTH118 (Path is 10 times slower)
            for name in files
            if name.lower().endswith(suffixes) and seen(name)
        ]
    return sorted((name.replace(os.sep, "/") for name in found), key=natural)


def existing_images(
    root: Path, names: Sequence[str], source: str, what: str = "images"
) -> list[str]:
    """Lists each folder once (118k calls of `exists` take seconds) and compares.

    Args:
        root: Folder that the names are relative to.
        names: Image files.
        source: Who names them, for the message.
        what: What they are, for the message.

    Returns:
        The names as the disk has them, which may be in another form of Unicode.

    Raises:
        ValueError: With the number of missing files and the path of the first.
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
        found.append(name if plain in there or (root / name).is_file() else other)
    missing = [name for name, actual in zip(names, found, strict=True) if not actual]
    if missing:
        raise ValueError(
            f"{source}: {len(missing)} of {len(names)} {what} are missing, the first is"
            f" {root / missing[0]}"
        )
    return found


def _folder(root: Path, name: str) -> str:
    """The folder as the disk has it."""
    if not name or (root / name).is_dir():
        return name
    parent, own = os.path.split(name)
    actual = _folder(root, parent)
    alike = (entry for entry in _listing(root / actual) if same_name(entry) == same_name(own))
    return os.path.join(actual, next(alike, own))  # noqa: PTH118


def images_by_stem(folder: Path) -> dict[str, list[str]]:
    """Name below a folder without suffix to the files of that name, of every image in it."""
    found: dict[str, list[str]] = {}
    for name in files_below(folder, IMAGE_SUFFIXES):
        found.setdefault(same_name(os.path.splitext(name)[0]), []).append(name)  # noqa: PTH122
    return found


def check_stems(stems: Sequence[str], by_stem: Container[str], folder: Path, source: str) -> None:
    """Refuses names that no image of the folder has.

    Raises:
        ValueError: With the number of missing images and the path of the first.
    """
    if missing := [stem for stem in stems if stem not in by_stem]:
        raise ValueError(
            f"{source}: {len(missing)} of {len(stems)} images are missing, the first is"
            f" {folder / (missing[0] + '.jpg')}"
        )


def only_image(files: Sequence[str], folder: Path, named: str = "") -> Path:
    """The image that a name without suffix stands for.

    Args:
        files: Those of that name, below the folder.
        folder: Of the images.
        named: What the annotation calls its image; decides between several.

    Raises:
        ValueError: There are several, and the annotation names none of them.
    """
    chosen = [
        name for name in files if same_name(Path(name).name) == same_name(Path(named).name)
    ] or files
    if len(chosen) > 1:
        both = " and ".join(str(folder / name) for name in chosen[:2])
        raise ValueError(f"{both}: expected one image of that name, and the annotation names none")
    return folder / chosen[0]


def listed_stems(folder: Path, split: str, key: str, known: Container[str]) -> list[str]:
    """The image names of a VOC split, composed as in `same_name`.

    A suffix is dropped, and a second column as in files of one class.

    Args:
        folder: Holds a file `SPLIT.txt`.
        split: Its name.
        key: The argument that named it, for the message.
        known: Names that there are; they tell `scan (1)` from a name with a second column.

    Raises:
        ValueError: If there is no such file, or an image stands in it twice.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        splits = sorted(entry.stem for entry in folder.glob("*.txt") if seen(entry.name))
        raise ValueError(f"{key}: no file {path}{nearest(split, splits)}")
    lines = read_text(path, key).splitlines()
    stems = [_stem(same_name(line.strip()), known) for line in lines if line.strip()]
    repeated = len(stems) - len(set(stems))
    if repeated:
        raise ValueError(f"{path}: {repeated} images stand there more than once")
    return stems


def _stem(line: str, known: Container[str]) -> str:
    """The image of a line of a split; the line itself where no reading of it is known."""
    first = re.sub(r"\s+-?[01]$", "", line)
    readings = [line, os.path.splitext(line)[0], first, os.path.splitext(first)[0]]  # noqa: PTH122
    return next((stem for stem in readings if stem in known), first)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _listing(folder: Path) -> Iterable[str]:
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises into one error that names the file.

    Args:
        path: The file; an error that names it, or a file in that folder, goes on as it is.
        what: What the file should be, for the message.

    Raises:
        ValueError: Instead of any error but a missing package's.
    """
    try:
        yield
    except ImportError:  # a package of ours is missing
        raise
    # Headers of damaged files lead anywhere: zlib, overflows, singular matrices, no memory
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        # ITK names the line of its own source first
        cause = " ".join(str(error).rpartition("ERROR: ")[2].split())[:_LONGEST] or "no message"
        raise ValueError(
            f"{path}: expected a readable {what}, got {type(error).__name__}: {cause}"
        ) from error
