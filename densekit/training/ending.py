"""Says why a training ended."""

from __future__ import annotations

from typing import Any, TypeVar

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from densekit.training.stopping import Stopping

Kind = TypeVar("Kind", bound=Callback)


def why_ended(trainer: Trainer, error: BaseException | None = None) -> str:
    """Describes in one line why a training ended: a limit, early stopping, a signal or an error.

    Args:
        trainer: Of the training that has just ended.
        error: What ended it, None if it ended by itself.
    """
    if error is None:
        return _limit(trainer) or _early_stop(trainer) or "a callback set trainer.should_stop"
    if isinstance(error, SIGTERMException | KeyboardInterrupt):
        received = [one.signal for one in _callbacks(trainer, Stopping) if one.signal]
        return received[0].name if received else type(error).__name__
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}"


def _limit(trainer: Trainer) -> str | None:
    """The limit of the trainer that is reached, None if none is."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps} is reached"
    epochs: Any = trainer.fit_loop.epoch_progress.current
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs.processed:
        return f"trainer.max_epochs={trainer.max_epochs} is reached"
    for timer in _callbacks(trainer, Timer):
        left = timer.time_remaining()
        if left is not None and left <= 0:
            return f"trainer.max_time is reached, after {timer.time_elapsed():.0f} s"
    return None


def _early_stop(trainer: Trainer) -> str | None:
    for callback in _callbacks(trainer, EarlyStopping):
        if callback.stopping_reason_message:
            return f"early stopping: {callback.stopping_reason_message}"
    return None


def _callbacks(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [one for one in callbacks if isinstance(one, kind)]
