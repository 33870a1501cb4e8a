"""`run.json`: what a run was started with and on, beside its configuration."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_json
from densekit._names import readable

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from densekit.data import DataModule
    from densekit.model import DenseModel

RECORD = "run.json"
PACKAGES = (
    *("densekit", "torch", "torchvision", "lightning", "numpy", "hydra-core", "timm"),
    *("segmentation-models-pytorch", "albumentations", "monai"),
)
"""Packages whose versions are recorded, where they are installed."""
GIT_SECONDS = 10


def record_start(run: Path) -> None:
    """Records command, versions and git state; in the process that the user has started."""
    _add(
        run,
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join([Path(sys.argv[0]).name, *map(readable, sys.argv[1:])]),
        versions={"python": platform.python_version(), **_versions()},
        git=git_state(Path.cwd()),
    )


def record_model(run: Path, trainer: Trainer, data: DataModule, model: DenseModel) -> None:
    """Adds hardware, counts of the data, and the number of parameters; in the first process."""
    from densekit.data.summary import counts_of

    if not trainer.is_global_zero:
        return
    sources = data.sources.items()
    _add(
        run,
        hardware=_hardware(trainer),
        data={
            name: {split: asdict(counts_of(part)) for split, part in source.splits.items()}
            for name, source in sources
        },
        parameters=_parameters(model),
    )


def read_record(run: Path) -> dict[str, Any]:
    """What a run folder records; empty for one without, or with a damaged file."""
    try:
        found = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and whether files differ from it; None outside a git work tree."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    return {"commit": commit, "branch": branch, "changed": bool(changed)}


def _git(folder: Path, *words: str) -> str:
    """What git prints; empty where it fails, or is not installed."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hardware(trainer: Trainer) -> dict[str, Any]:
    import psutil
    import torch

    from densekit.training.devices import processor_name

    return {
        "device": processor_name(trainer.strategy.root_device.type),
        "processes": trainer.world_size,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "precision": str(trainer.precision),
        "system": platform.platform(),
    }


def _parameters(model: DenseModel) -> dict[str, dict[str, int]]:
    """Part of the model to its number of parameters, and of those that train."""
    parts: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        names = name.split(".")
        part = ".".join(names[: 2 if names[0] == "heads" else 1])
        counts = parts.setdefault(part, {"all": 0, "trained": 0})
        counts["all"] += parameter.numel()
        counts["trained"] += parameter.numel() * parameter.requires_grad
    return parts


def _add(run: Path, **facts: Any) -> None:
    """Adds facts to the file; a run that is started again in its folder replaces them."""
    kept: Mapping[str, Any] = read_record(run)
    write_json(run / RECORD, {**kept, **facts})
