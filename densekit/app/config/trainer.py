"""Trainer settings that densekit makes itself, and what to set instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from densekit.app.errors import UsageError

TAKEN = {
    "logger": "logger=none leaves all out, logger.NAME=null one",
    "callbacks": "+callbacks.NAME._target_=CLASS adds one, callbacks.NAME=null leaves one out",
    "default_root_dir": "paths.runs=FOLDER says where runs go",
    "use_distributed_sampler": "the samplers of densekit divide the data themselves",
}
"""Arguments of the trainer to what to set instead."""

FSDP = "fsdp"
"""The strategy that divides weights over processes, see `densekit.training.Fsdp`."""


def check_taken(trainer: Mapping[str, Any]) -> None:
    """Refuses trainer settings that densekit would overwrite.

    Raises:
        UsageError: Such a setting is given; names the first one.
    """
    for name, instead in TAKEN.items():
        value = trainer.get(name)
        if name in trainer and not (name == "use_distributed_sampler" and value is False):
            raise UsageError(
                f"trainer.{name}: expected nothing, as densekit sets it, got {value}; {instead}"
            )


def strategy_of(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The argument `strategy` of a trainer, where it is densekit's own and not one of Lightning's.

    Args:
        trainer: Settings of the trainer.
    """
    if trainer.get("strategy") != FSDP:
        return {}
    from densekit.training import Fsdp

    return {"strategy": Fsdp()}


def with_switches(
    trainer: Mapping[str, Any], callbacks: Sequence[Any]
) -> tuple[dict[str, Any], list[Any]]:
    """Makes trainer switches and callbacks agree: either turns checkpoints or progress bars off.

    Otherwise Lightning would refuse a switch beside a callback, and add its own checkpoint or bar
    where there is no callback.

    Args:
        trainer: Settings of the trainer.
        callbacks: The callback objects.

    Returns:
        Settings with the switches set, and the remaining callbacks.
    """
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    settings, kept = dict(trainer), list(callbacks)
    switches = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    for name, kind in switches.items():
        if settings.get(name) is False:
            kept = [one for one in kept if not isinstance(one, kind)]
        settings[name] = any(isinstance(one, kind) for one in kept)
    return settings, kept
