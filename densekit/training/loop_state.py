"""State of Lightning's loops, so that checkpoints resume a run exactly where it stopped."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def is_accumulating(trainer: Trainer) -> bool:
    """Whether the gradients of the batch that has just ended are accumulated with further ones."""
    return trainer.fit_loop._should_accumulate()


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the batch that has just ended is the last one of its epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_is_due(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that has just ended."""
    fit, fetcher = trainer.fit_loop, trainer.fit_loop._data_fetcher
    return fetcher is not None and fit.epoch_loop._should_check_val_fx(fetcher)


def go_to_validation(checkpoint: dict[str, Any]) -> None:
    """Makes a run resumed from this checkpoint begin with the validation that is due.

    Lightning would skip it, or evaluate only the remaining images.

    Args:
        checkpoint: About to be saved; the batch before the validation is complete.
    """
    loops = checkpoint["loops"]["fit_loop"]
    trained = loops["epoch_loop.batch_progress"]
    for count in (trained["total"], trained["current"]):
        count["completed"] = count["processed"]
    measured = loops["epoch_loop.val_loop.batch_progress"]
    measured["current"] = dict.fromkeys(measured["current"], 0)
    # One batch started and not completed: this is how Lightning detects an interrupted validation.
    measured["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    measured["is_last_batch"] = False


def forget_cut_off(trainer: Trainer) -> None:
    """At the start of a validation, resets the batch that `go_to_validation` marked as started."""
    total: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
    total.ready = total.started = total.processed
