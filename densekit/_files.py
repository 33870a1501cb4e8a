"""Atomic writing of files: each appears complete or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from densekit._locks import lock_if_free
from densekit._names import readable

PREFIX = ".partial-"
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write, which name no file."""
FULL = 1 << 16
"""Free bytes below which a disk is full: less than a block of a large write."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Context that yields a path to write to, and moves the result to `path` when it ends.

    If the block fails, because the disk is full or the process is stopped, an existing file is left
    unchanged. Several processes may write the same file: the last one wins. A file that is replaced
    keeps its permissions; of a symbolic link, the file that it points to is replaced.

    Args:
        path: The file; its folder is created. The yielded path has the same name, as writers choose
            a format by the suffix, and lies in a hidden folder beside it. A process that is killed
            leaves this folder behind; the next one that writes the file removes it.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(target) as folder:
        try:
            part = folder / path.name
            yield part
            if target.exists():
                _copy_mode(target, part)
            part.replace(target)
        except OSError as error:
            unnamed = error.filename is None and error.errno in WRITE_ERRORS
            if unnamed or Path(str(error.filename)).is_relative_to(folder):
                _set_filename(error, path)  # the name that the user knows
            raise
        except RuntimeError as error:  # writers in C++ name neither the file nor the reason
            if shutil.disk_usage(folder).free >= FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextmanager
def _hidden_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside a file, the same at each time unless another process is using it."""
    folder = target.parent / f"{PREFIX}{crc32(os.fsencode(target.name)):08x}"
    lock_file = folder.with_suffix(".lock")
    lock = lock_if_free(lock_file)
    if lock is None:
        try:
            own = TemporaryDirectory(prefix=PREFIX, dir=target.parent)
        except OSError as error:
            _set_filename(error, target.parent)
            raise
        with own:
            yield Path(own.name)
        return
    with lock:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # Windows removes no open file; the lock then does
                lock_file.unlink(missing_ok=True)


def _copy_mode(source: Path, target: Path) -> None:
    """Sets the permissions of a file if they differ, as not every file system can set them."""
    mode = stat.S_IMODE(source.stat().st_mode)
    if mode != stat.S_IMODE(target.stat().st_mode):
        target.chmod(mode)


def _set_filename(error: OSError, path: Path) -> None:
    error.filename = str(path)
    if error.filename2 is not None:
        del error.filename2  # of a rename


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8; file names of any encoding are made printable (`readable`)."""
    with replacing(path) as part:
        part.write_text(readable(text), encoding="utf-8", newline="")


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_csv(path: str | Path, rows: Iterable[Iterable[object]]) -> None:
    """Writes a comma-separated table, the header as first row; None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def finite(value: Any) -> Any:
    """Returns a copy of JSON values with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value
