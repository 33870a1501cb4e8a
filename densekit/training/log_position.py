"""Where the logs of a run stand at a checkpoint, so that a resumed run repeats and loses no row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger


def log_position(trainer: Trainer) -> dict[str, Any]:
    """Writes what the loggers hold; returns the number of CSV rows, and what is still to log.

    The steps of the rows do not tell which of them a resumed run repeats: a validation that ran
    after the checkpoint was logged at the step before it.

    Returns:
        `rows`, the rows so far of a CSV log, and `late`, a row that Lightning only logs after the
        hooks of the training step, in which the checkpoint is saved; empty if there is none.
    """
    for logger in trainer.loggers:
        logger.save()
    rows = _csv_rows(trainer.loggers) if trainer.is_global_zero else 0
    return {"rows": rows, "late": _late_row(trainer)}


def log_late_row(trainer: Trainer, position: Mapping[str, Any]) -> None:
    """Logs the row that a checkpoint was saved before, in a run resumed from it."""
    row = dict(position.get("late", {}))
    if row:
        step = int(row.pop("step"))
        for logger in trainer.loggers:
            logger.log_metrics(row, step)


def _csv_rows(loggers: Iterable[Logger]) -> int:
    """Rows of the first CSV log; all CSV loggers of a run log the same."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            file = Path(logger.log_dir, "metrics.csv")
            return file.read_bytes().count(b"\n") - 1 if file.is_file() else 0
    return 0


def _late_row(trainer: Trainer) -> dict[str, Any]:
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    batches: Any = loop.batch_progress.current
    in_hooks = batches.completed < batches.processed
    if not in_hooks or loop._should_accumulate() or not connector.should_update_logs:
        return {}
    metrics = convert_tensors_to_scalars(connector.metrics["log"])
    step = {"epoch": trainer.current_epoch, "step": loop._batches_that_stepped}
    return {**metrics, **step} if metrics else {}
