"""The run folder that all processes agree on, and what an earlier attempt of the run has left.

torchrun starts all processes again when one of them or a host fails, and SLURM requeues a job: the
command is the same, and the run goes on from the last checkpoint of the earlier attempt.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from densekit._files import write_text
from densekit.app.errors import UsageError
from densekit.app.run import launch
from densekit.app.run.folder import new_folder
from densekit.app.run.stored import resumable

logger = logging.getLogger(__name__)

_stores: list[Any] = []
"""Keeps the server of the first process, which the process group uses, too."""


class Attempt(NamedTuple):
    """Where a training writes, and where it goes on.

    Attributes:
        run: A new run folder.
        resume: Checkpoint of an earlier attempt, None for the first one.
    """

    run: Path
    resume: Path | None


def agree_on_folder(parent: Path) -> Path:
    """Creates a run folder, the same one in all processes that torchrun or srun has started."""
    if not launch.started_outside():
        return new_folder(parent)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Path(_shared(lambda: str(new_folder(parent))))
    return _of_slurm(parent).run


def agree_on_attempt(parent: Path) -> Attempt:
    """Like `agree_on_folder`, and finds the checkpoint from which a restarted training goes on."""
    if not launch.started_outside():
        return Attempt(new_folder(parent), None)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return _of_slurm(parent)
    run, _, resume = _shared(lambda: "\n".join(map(str, _of_torchrun(parent)))).partition("\n")
    return Attempt(Path(run), None if resume == "None" else Path(resume))


def forget_attempts(parent: Path) -> None:
    """Removes the list of attempts of a training that is done."""
    if file := _list(parent):
        file.unlink(missing_ok=True)


def _of_torchrun(parent: Path) -> Attempt:
    """A new folder, noted in a hidden list beside it that is named after the id of torchrun."""
    file = _list(parent)
    if file is None:
        return Attempt(new_folder(parent), None)
    earlier = file.read_text("utf-8").splitlines() if file.is_file() else []
    run = new_folder(parent)
    write_text(file, "".join(f"{line}\n" for line in (*earlier, run)))
    return Attempt(run, _last_checkpoint([Path(line) for line in earlier]))


def _of_slurm(parent: Path) -> Attempt:
    """A folder named after the job step and the number of times that the job was requeued."""
    if not launch.slurm_tasks() > 1:
        raise UsageError(
            "RANK, WORLD_SIZE: expected to be set by torchrun or srun, got another launcher, under"
            " which the processes cannot agree on a run folder; start them with torchrun"
        )
    job, step = os.environ.get("SLURM_JOB_ID", "0"), os.environ.get("SLURM_STEP_ID", "0")
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    names = [f"slurm_{job}_{step}", *(f"slurm_{job}_{step}_{n + 1}" for n in range(restarts))]
    *earlier, run = (parent.absolute() / name for name in names)
    run.mkdir(parents=True, exist_ok=True)
    return Attempt(run, _last_checkpoint(earlier))


def _last_checkpoint(runs: list[Path]) -> Path | None:
    """The last intact checkpoint of the latest run that has one."""
    for run in reversed(runs):
        if list((run / "checkpoints").glob("*.ckpt")):
            try:
                return resumable(run)
            except ValueError as error:
                logger.warning("%s", error)
    return None


def _list(parent: Path) -> Path | None:
    """The list of attempts, None where torchrun does not start a failed process again."""
    name, most = os.environ.get("TORCHELASTIC_RUN_ID"), os.environ.get("TORCHELASTIC_MAX_RESTARTS")
    if name in (None, "none") or not int(most or 0):
        return None
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in str(name))
    return parent / f".torchrun_{safe}"


def _shared(make: Callable[[], str]) -> str:
    """Rank 0 makes a text and shares it through the store of the process group."""
    from torch.distributed import rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://"))
    _stores.append(store)
    key = f"densekit/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if launch.is_main():
        store.set(key, make())
    found: str = store.get(key).decode()
    return found
