"""Prepared arrays on disk, mapped into memory: nothing is kept in it, only read pages are touched.

Several workers and processes may meet in one folder: whoever is late replaces a file by an equal
one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._files import replacing

Arrays = dict[str, NDArray[Any]]

_FORMAT = 1
"""Part of every key: to be raised when the preparation of arrays changes."""


def entry_key(files: Iterable[Path], rule: Any) -> str:
    """A name for what a rule makes of files; another once a file or the rule changes.

    Args:
        files: Files, or folders for all that they hold, by path, size and time of change.
        rule: Plain JSON values.
    """
    stamps = [
        (str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns)
        for given in files
        for file in (sorted(given.iterdir()) if given.is_dir() else [given])
    ]
    text = json.dumps([_FORMAT, stamps, rule], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cached(
    folder: Path | None, key: str, names: Sequence[str], make: Callable[[], Arrays]
) -> Arrays:
    """The arrays of an entry, made if they are not there.

    Args:
        folder: Where entries lie, one file an array; None makes them every time.
        key: See `entry_key`.
        names: Of the arrays.
        make: Returns them by name.

    Returns:
        Read-only maps of the files; without a folder the arrays as made.
    """
    if folder is None:
        return make()
    files = {name: folder / f"{key}.{name}.npy" for name in names}
    try:
        return _mapped(files)
    except (OSError, ValueError, EOFError):  # not there, or damaged by the disk
        arrays = make()
    try:
        for name, file in files.items():
            with replacing(file) as part:
                np.save(part, arrays[name])
    except OSError as error:
        raise OSError(f"cache: {folder} cannot be written: {error}") from error
    return _mapped(files)


def _mapped(files: dict[str, Path]) -> Arrays:
    return {name: np.load(file, mmap_mode="r") for name, file in files.items()}
