"""A hook of callbacks for the end of a run: after the training and the evaluations that follow."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class HasRunEnd(Protocol):
    """A callback that says something at the end of a run; Lightning has no such hook."""

    def on_run_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Called in every process after the last evaluation, unless a signal ended the run."""


def end_run(trainer: Trainer, lit: Any) -> None:
    """Calls the hook `on_run_end` of the callbacks that have it.

    Args:
        trainer: Has trained, validated or tested.
        lit: Its `LitModel`.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, HasRunEnd):
            callback.on_run_end(trainer, lit)
