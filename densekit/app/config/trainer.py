"""The settings of the trainer that densekit makes itself, and what a person says in their place."""

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
"""Arguments of the trainer to what is said in their place."""


def check_taken(trainer: Mapping[str, Any]) -> None:
    """Refuses settings that would be overwritten.

    Raises:
        UsageError: Naming the first one.
    """
    for name, instead in TAKEN.items():
        value = trainer.get(name)
        if name in trainer and not (name == "use_distributed_sampler" and value is False):
            raise UsageError(
                f"trainer.{name}: expected nothing, as densekit sets it, got {value}; {instead}"
            )


def with_switches(
    trainer: Mapping[str, Any], callbacks: Sequence[Any]
) -> tuple[dict[str, Any], list[Any]]:
    """Makes the trainer's switches and the callbacks agree: either turns checkpoints or bars off.

    Without this Lightning would refuse a switch beside a callback, and put a checkpoint or a bar of
    its own where there is no callback.

    Args:
        trainer: Its settings.
        callbacks: The objects.

    Returns:
        Both, the switches set.
    """
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    settings, kept = dict(trainer), list(callbacks)
    switches = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    for name, kind in switches.items():
        if settings.get(name) is False:
            kept = [one for one in kept if not isinstance(one, kind)]
        settings[name] = any(isinstance(one, kind) for one in kept)
    return settings, kept
