"""The logs of a run that is resumed in a folder of its own begin with those of the run before."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger, TensorBoardLogger

_log = logging.getLogger(__name__)

EVENTS = "events.out.tfevents*"


def continue_logs(loggers: Iterable[Logger], run: Path, checkpoint: Path, step: int) -> None:
    """Takes over what was logged before a step, from the folder that a checkpoint lies in.

    Args:
        loggers: Of the new run; CSV and TensorBoard keep files that can be gone on with.
        run: The new run folder.
        checkpoint: RUN/checkpoints/FILE of the run before; without its logs nothing happens.
        step: Optimiser steps done by then; what was logged later is done once more.
    """
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    before = checkpoint.parent.parent
    for logger in loggers:
        if not isinstance(logger, CSVLogger | TensorBoardLogger):
            continue
        folder = Path(logger.log_dir)
        if before == run or not folder.is_relative_to(run):
            continue
        earlier = before / folder.relative_to(run)
        try:
            if isinstance(logger, CSVLogger):
                logger.experiment.metrics.extend(rows_before(earlier / "metrics.csv", step))
            else:
                _copy_events(earlier, folder, logger, step)
        except (OSError, ValueError, csv.Error) as error:  # what is lost is no reason to stop
            _log.warning("%s: expected the logs of the run before, got %s", earlier, error)


def rows_before(file: Path, step: int) -> list[dict[str, Any]]:
    """The rows of a CSV of metrics that were logged before a step; see `logged_rows`."""
    rows = logged_rows(file)
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) < step]


def logged_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a CSV of metrics, without their empty cells; nothing if the file is missing.

    A run that was killed may have left half a row at the end, with fewer cells than the others.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(text)]


def _copy_events(earlier: Path, folder: Path, logger: TensorBoardLogger, step: int) -> None:
    """Brings the files of events along; of what was logged twice, the second is shown."""
    files = list(earlier.glob(EVENTS))
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    logger._kwargs["purge_step"] = step  # of the writer, which is made when it is first used
