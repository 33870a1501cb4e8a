"""Every file of a data set is read once before the first step; what was right is remembered."""

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
"""Part of every mark: to be raised when reading finds more."""
_THREADS = 8


def broken_files(dataset: Dataset) -> dict[int, str]:
    """Position of each image whose files cannot be read, and why.

    Files that were right last time and have their size and time of change are not read again: marks
    of them lie in the user's cache, never beside the data. What stands in the data set several
    times is read once.

    Args:
        dataset: A data set, or a part of one. Nothing is looked at where it names no files
            (`Dataset.origin`), as rendered scenes and volumes do not.
    """
    found = [dataset.origin(index) for index in range(len(dataset))]
    origins = [origin for origin in found if origin is not None]
    if not origins or len(origins) < len(found):
        return {}
    marks = [_mark(*origin) for origin in origins]
    memory = _memory(origins[0][0][0].parent)
    known = _remembered(memory)
    unknown = {mark: index for index, mark in enumerate(marks) if mark not in known}
    broken: dict[str, str] = {}
    right: list[str] = []
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        answers = [(mark, pool.submit(_fault, dataset, index)) for mark, index in unknown.items()]
        for mark, answer in tracked(answers, "reading every file once"):
            if fault := answer.result():
                broken[mark] = fault
            else:
                right.append(mark)
    finally:
        pool.shutdown(cancel_futures=True)
        _remember(memory, right)
    return {index: broken[mark] for index, mark in enumerate(marks) if mark in broken}


def _fault(dataset: Dataset, index: int) -> str:
    try:
        dataset.read(index)
    except ValueError as error:
        return str(error)
    return ""


def _mark(files: Sequence[Path], how: str) -> str:
    """16 characters of files as they are now and of how they are read."""
    stamps = [f"{_FORMAT} {how}"]
    for file in files:
        with contextlib.suppress(OSError):  # whoever reads it says what is wrong
            state = file.stat()
            stamps.append(f"{file.absolute()} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]


def _memory(folder: Path) -> Path:
    """The file of marks for the images of a folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    return Path(home) / "densekit" / "read" / name


def _remembered(memory: Path) -> set[str]:
    try:
        return set(memory.read_text("ascii").split())
    except (OSError, UnicodeDecodeError):
        return set()


def _remember(memory: Path, marks: Sequence[str]) -> None:
    if not marks:
        return
    with contextlib.suppress(OSError):  # no home to write to: the next run reads again
        memory.parent.mkdir(parents=True, exist_ok=True)
        with memory.open("a", encoding="ascii") as stream:  # several processes may add to it
            stream.write("".join(f"{mark}\n" for mark in marks))
