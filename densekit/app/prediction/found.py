"""Finds folders below a folder and files of a pattern, and makes their paths relative."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path


def folders_below(folder: Path) -> list[Path]:
    """Lists a folder and all folders in it, sorted, except those that begin with a dot.

    Each folder is listed once: links that lead back would never end, and several would multiply.
    """
    inside = (name for name in _walk(folder) if (folder / name).is_dir())
    shown = (name for name in inside if not any(part.startswith(".") for part in name.parts))
    return sorted([folder, *(folder / name for name in shown)])


def files_of(pattern: Path) -> list[Path]:
    """Lists files and folders that match a pattern, sorted; `**` matches any number of folders.

    As in the shell, `*` does not match a leading dot.
    """
    if "**" not in pattern.parts:
        return [Path(name) for name in sorted(glob.glob(str(pattern)))]  # noqa: PTH207
    root = fixed_part(pattern)
    wanted = pattern.relative_to(root).parts
    names = [Path(), *_walk(root)]
    return sorted(root / name for name in names if _matches(name.parts, wanted))


def fixed_part(pattern: Path) -> Path:
    """Returns the folder of a pattern before its first wildcard."""
    parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    return Path(*parts)


def relative_paths(files: Sequence[Path], root: Path) -> list[Path]:
    """Returns the paths of files relative to `root`, without `..`.

    If a file is not below `root`, the paths are relative to the files' common folder.
    """
    plain = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 (keeps links)
    base = Path(os.path.abspath(root))  # noqa: PTH100
    if not all(file.is_relative_to(base) for file in plain):
        base = Path(os.path.commonpath([file.parent for file in plain]))
    return [file.relative_to(base) for file in plain]


def _walk(root: Path) -> Iterator[Path]:
    """Yields files and folders relative to the root, following links, each folder once."""
    walked = {os.path.realpath(root)}
    for place, inside, files in os.walk(root, followlinks=True):
        # Real folders come before links to them, and visible ones before hidden ones.
        folder = Path(place)
        inside.sort(key=partial(_rank, folder))
        inside[:] = [name for name in inside if _new(folder / name, walked)]
        here = folder.relative_to(root)
        yield from (here / name for name in (*files, *inside))


def _rank(folder: Path, name: str) -> tuple[bool, bool]:
    return name.startswith("."), (folder / name).is_symlink()


def _new(folder: Path, walked: set[str]) -> bool:
    real = os.path.realpath(folder)
    if real in walked:
        return False
    walked.add(real)
    return True


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern."""
    if not wanted:
        return not parts
    if wanted[0] == "**" and _matches(parts, wanted[1:]):
        return True
    if not parts or (parts[0].startswith(".") and not wanted[0].startswith(".")):
        return False
    if wanted[0] == "**":
        return _matches(parts[1:], wanted)
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
