"""Atomic writing of files: each appears complete or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densekit._names import readable

PREFIX = ".partial-"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Context that yields a path to write to, and moves the result to `path` when it ends.

    If the block fails, because the disk is full or the process is stopped, an existing file is left
    unchanged. Several processes may write the same file: the last one wins.

    Args:
        path: The file; its folder is created. The yielded path has the same name, as writers choose
            a format by the suffix, and lies in a hidden folder beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=PREFIX, dir=path.parent) as folder:
            part = Path(folder) / path.name
            yield part
            part.replace(path)
    except OSError as error:
        if error.errno and (error.filename is None or PREFIX in str(error.filename)):
            error.filename = str(path)  # the name that the user knows
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8; file names of any encoding are made printable (`readable`)."""
    with replacing(path) as part:
        part.write_text(readable(text), encoding="utf-8", newline="")


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON; NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_csv(path: str | Path, rows: Iterable[Iterable[object]]) -> None:
    """Writes a comma-separated table, the header as first row; None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
