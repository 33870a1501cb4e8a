"""Every file of a data set is read once before the first step; what was right is remembered."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.reading.progress import tracked

Origin = tuple[Sequence[Path], str]
"""The files of an image, and how they are read, in words."""

_FORMAT = 1
"""Part of every mark: to be raised when reading finds more."""
_THREADS = 8


def broken_files(dataset: Any) -> dict[int, str]:
    """Position of each image whose files cannot be read, and why.

    Files that were right last time and have their size and time of change are not read again: marks
    of them lie in the user's cache, never beside the data.

    Args:
        dataset: A data set, or a part of one. Without `origin` and `read` it has no files of
            pictures, as rendered scenes and volumes, and nothing is looked at.
    """
    whole, positions = _unwrapped(dataset)
    if not hasattr(whole, "origin") or not len(positions):
        return {}
    images = np.unique(positions).tolist()
    marks = {image: _mark(*whole.origin(image)) for image in images}
    memory = _memory(whole.origin(images[0])[0][0].parent)
    known = _remembered(memory)
    unknown = [image for image in images if marks[image] not in known]
    broken: dict[int, str] = {}
    right: list[str] = []
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        answers = [pool.submit(_fault, whole, image) for image in unknown]
        pairs = list(zip(unknown, answers, strict=True))
        for image, answer in tracked(pairs, "reading every file once"):
            if fault := answer.result():
                broken[image] = fault
            else:
                right.append(marks[image])
    finally:
        pool.shutdown(cancel_futures=True)
        _remember(memory, right)
    return {
        place: broken[image] for place, image in enumerate(positions.tolist()) if image in broken
    }


def _unwrapped(dataset: Any) -> tuple[Any, NDArray[Any]]:
    """The data set behind its parts, and the image there of each position."""
    positions = np.arange(len(dataset))
    while hasattr(dataset, "positions"):
        positions = np.asarray(dataset.positions)[positions]
        dataset = dataset.data
    return dataset, positions


def _fault(dataset: Any, image: int) -> str:
    try:
        dataset.read(image)
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
