"""Files of checkpoints: which of a folder can be read, which is the furthest, which the best.

Commands that only read a checkpoint need this file and no trainer, so it imports no Lightning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from densekit.artifact import check_intact

LAST = "last.ckpt"

logger = logging.getLogger(__name__)


def furthest_checkpoint(path: str | Path) -> Path:
    """Finds the checkpoint of a run with the most steps, and warns about unreadable ones.

    Args:
        path: A checkpoint, or a folder of them. If the file is broken, its neighbours are tried.
            Modification times are ignored: a copied folder has new ones.

    Raises:
        ValueError: There is no checkpoint, or none can be read.
    """
    return _furthest(Path(path))[0]


def best_checkpoint(folder: Path) -> Path:
    """Finds the best checkpoint of a folder, as recorded in its furthest one; else the furthest.

    Raises:
        ValueError: There is no checkpoint, or none can be read.
    """
    furthest, content = _furthest(folder)
    for state in content.get("callbacks", {}).values():
        best = state.get("best_model_path") if isinstance(state, Mapping) else None
        if best:  # by name: the folder may have been moved or copied
            file = folder / Path(best).name
            if is_whole(file):
                return file
            logger.warning("%s, the best checkpoint, is missing or damaged", file)
    return furthest


def progress(path: Path) -> tuple[int, int]:
    """Reads the optimiser step and the epoch of a checkpoint, (-1, -1) if it holds only weights."""
    return _progress(_content(path))


def is_whole(file: Path) -> bool:
    """Whether a file is a checkpoint that can be read."""
    try:
        check_intact(file)
        _content(file)
    except Exception:  # torch passes on any error of its zip and pickle readers
        return False
    return file.suffix == ".ckpt"


def _furthest(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file that `furthest_checkpoint` finds, and its content."""
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.ckpt"))
    if not path.exists() or not files:
        raise ValueError(f"{path}: expected a checkpoint like {LAST} or a folder of them, got none")
    if path.is_file() and (asked := _read([path])):
        return path, asked[path]
    whole = _read([file for file in files if file != path])
    if not whole:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{folder}: expected a readable checkpoint, got broken ones: {names}")
    # At the same step `last.ckpt` holds the latest state: it is written after the best.
    found = max(whole, key=lambda file: (*_progress(whole[file]), file.name == LAST))
    if len(whole) < len(files):
        logger.warning("continuing from the previous checkpoint, %s", found)
    return found, whole[found]


def _progress(content: Mapping[str, Any]) -> tuple[int, int]:
    return int(content.get("global_step", -1)), int(content.get("epoch", -1))


def _read(files: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Reads checkpoints; leaves out those that cannot be read, with a warning."""
    found = {}
    for file in files:
        try:
            check_intact(file)
            found[file] = _content(file)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            logger.warning("%s cannot be read: %s", file, reason)
    return found


def _content(file: Path) -> dict[str, Any]:
    """The content of a checkpoint; its tensors are read when they are used."""
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return content
