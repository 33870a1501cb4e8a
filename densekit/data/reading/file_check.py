"""Reads every file of a data set once before the first step; remembers the intact ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked

_FORMAT = 1
"""Part of every mark; raise it when reading detects more kinds of damage."""
_THREADS = 8


def broken_files(dataset: Dataset) -> dict[int, str]:
    """Position of each image whose files cannot be read, and the error.

    Files that were intact last time and still have the same size and modification time are not read
    again: their marks are kept in the user's cache, never beside the data. An image that appears
    several times in the data set is read once.

    Args:
        dataset: A data set or a subset of one. Nothing is read where it names no files
            (`Dataset.origin`), as rendered scenes and volumes do not.
    """
    every = [dataset.origin(index) for index in range(len(dataset))]
    origins = [origin for origin in every if origin is not None]
    if not origins or len(origins) < len(every):
        return {}
    marks = [_mark(*origin) for origin in origins]
    memory = _marks_file(origins[0][0][0].parent)
    known = _load_marks(memory)
    unknown = {mark: index for index, mark in enumerate(marks) if mark not in known}
    broken: dict[str, str] = {}
    intact: list[str] = []
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        errors = [(mark, pool.submit(_error, dataset, index)) for mark, index in unknown.items()]
        for mark, error in tracked(errors, "reading every file once"):
            if message := error.result():
                broken[mark] = message
            else:
                intact.append(mark)
    finally:
        pool.shutdown(cancel_futures=True)
        _save_marks(memory, intact)
    return {index: broken[mark] for index, mark in enumerate(marks) if mark in broken}


def _error(dataset: Dataset, index: int) -> str:
    """Why an image cannot be read, empty if it can."""
    try:
        dataset.read(index)
    except ValueError as error:
        return str(error)
    return ""


def _mark(files: Sequence[Path], how: str) -> str:
    """16 characters that change when a file or the way it is read changes."""
    stamps = [f"{_FORMAT} {how}"]
    for file in files:
        with contextlib.suppress(OSError):  # reading it reports what is wrong
            state = file.stat()
            stamps.append(f"{file.absolute()} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]


def _marks_file(folder: Path) -> Path:
    """The file that keeps the marks of the intact images of a folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return Path(home) / "densekit" / "read" / name


def _load_marks(memory: Path) -> set[str]:
    try:
        return set(memory.read_text("ascii").split())
    except (OSError, UnicodeDecodeError):
        return set()


def _save_marks(memory: Path, marks: Sequence[str]) -> None:
    if not marks:
        return
    with contextlib.suppress(OSError):  # no home to write to: the next run reads again
        memory.parent.mkdir(parents=True, exist_ok=True)
        with memory.open("a", encoding="ascii") as stream:  # several processes may append
            stream.write("".join(f"{mark}\n" for mark in marks))
