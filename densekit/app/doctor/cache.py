"""Remembers what files hold, so that an interrupted scan goes on and a repeated one is short."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 3
"""Part of every key; raise it when the facts change."""


def cache_file(study: str) -> Path:
    """The file that remembers a data set, in the user's cache and never beside the data.

    Args:
        study: A text that identifies the data set, such as the folder of its first image.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = hashlib.sha256(study.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Path(home) / "densekit" / "doctor" / f"{name}.jsonl"


def key_of(kind: str, path: Path) -> str:
    """A text that changes when a file changes: path, size and time of its last modification.

    Args:
        kind: How the file is read.
        path: The file; of a folder, the files in it count.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stamps = [f"{FORMAT} {kind} {path.absolute()}"]
    for file in files:
        with contextlib.suppress(OSError):  # a missing file has no stamp, and reading it says so
            state = file.stat()
            stamps.append(f"{file.name} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def load(file: Path) -> dict[str, dict[str, Any]]:
    """The facts by key; lines that a killed process left half-written are skipped."""
    found = {}
    with contextlib.suppress(OSError), file.open(encoding="utf-8") as stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                key, facts = json.loads(line)
                if isinstance(facts, dict):
                    found[str(key)] = facts
    return found


def append(file: Path, key: str, facts: Mapping[str, Any]) -> None:
    """Adds the facts of one file at once; a scan that stops later need not read it again."""
    with contextlib.suppress(OSError):  # no home to write to: the next run reads again
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, facts]) + "\n")
