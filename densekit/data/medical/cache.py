"""Caches prepared arrays on disk, memory-mapped so that only the pages in use are loaded.

Several workers and processes may share one folder: a late one replaces a file by an equal one.
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
"""Part of every key; raise it when the preparation of arrays changes."""


def entry_key(files: Iterable[Path], rule: Any) -> str:
    """A key for arrays prepared from files by a rule; it changes with a file or the rule.

    Args:
        files: Files, or folders for all their files, by path, size and modification time.
        rule: Plain JSON values.
    """
    stamps = [
        (str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns)
        for path in files
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    text = json.dumps([_FORMAT, stamps, rule], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cached(
    folder: Path | None, key: str, names: Sequence[str], make: Callable[[], Arrays]
) -> Arrays:
    """The arrays of a cache entry, prepared if they do not exist.

    Args:
        folder: Folder of the entries, one file per array; None prepares them every time.
        key: See `entry_key`.
        names: Names of the arrays.
        make: Prepares the arrays and returns them by name.

    Returns:
        Read-only memory maps of the files; without a folder the arrays as prepared.
    """
    if folder is None:
        return make()
    files = {name: folder / f"{key}.{name}.npy" for name in names}
    try:
        return _mapped(files)
    except (OSError, ValueError, EOFError):  # missing or damaged
        arrays = make()
    try:
        for name, file in files.items():
            with replacing(file) as part:
                np.save(part, arrays[name])
    except OSError as error:
        raise OSError(f"cache: expected a writable folder, got {folder}: {error}") from error
    return _mapped(files)


def _mapped(files: dict[str, Path]) -> Arrays:
    return {name: np.load(file, mmap_mode="r") for name, file in files.items()}
