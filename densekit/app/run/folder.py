"""The folder of a run: its name, and the configuration that is stored in it."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, open_dict

from densekit._files import write_text
from densekit._names import is_file_name, visible
from densekit.app.errors import UsageError

CONFIG = "config.yaml"
METRICS = "metrics.json"
PENDING = str(Path(tempfile.gettempdir(), f"densekit-run-{uuid.uuid4().hex}"))
"""Stands for the run folder during all checks, as the folder is only created after them.

Data sets that write there while they are built write to a temporary folder, which is removed.
"""
atexit.register(shutil.rmtree, PENDING, ignore_errors=True)


def in_folder(cfg: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Replaces `PENDING` by a run folder everywhere in a resolved configuration."""
    placed: dict[str, Any] = _replaced(dict(cfg), str(run))
    return placed


def _replaced(node: Any, run: str) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, run) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, run) for value in node]
    return node.replace(PENDING, run) if isinstance(node, str) else node


def set_run_dir(cfg: DictConfig, run: str) -> None:
    """Sets the run folder and makes all paths absolute, so that it can be read from anywhere."""
    with open_dict(cfg):
        cfg.paths.run = run
        for name in ("data", "runs"):
            cfg.paths[name] = str(Path(str(cfg.paths[name])).expanduser().absolute())


def run_name(cfg: DictConfig, experiment: str) -> str:
    """Returns the folder name of an experiment's runs; fills in `run_name` if it is not set.

    Raises:
        UsageError: See `checked_name`.
    """
    with open_dict(cfg):
        cfg.run_name = checked_name(str(cfg.run_name or experiment or "train"))
    return str(cfg.run_name)


def checked_name(name: str) -> str:
    """Returns a run name that is one folder; others would lie outside `paths.runs`, or nested.

    Raises:
        UsageError: It is none.
    """
    if not is_file_name(name):
        raise UsageError(f"run_name: expected the name of one folder, got {visible(name)}")
    return name


def new_folder(parent: Path) -> Path:
    """Creates a folder named after the time, with a number if the name is taken."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"paths.runs: expected a folder that can be written, got {parent}: {error.strerror}"
            ) from error
        return folder.absolute()
    raise UsageError(f"{parent}: expected fewer than a thousand runs per second, got more")


def dump(cfg: Mapping[str, Any]) -> str:
    """The configuration as YAML text, in the order of its composition."""
    return yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True, width=100)


def write_config(cfg: Mapping[str, Any], folder: Path) -> Path:
    """Writes the resolved configuration into a run folder and returns the file."""
    file = folder / CONFIG
    write_text(file, dump(cfg))
    return file


def seal(file: Path) -> str:
    """SHA-256 of a configuration file: tells a worker that its parent has checked the file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
