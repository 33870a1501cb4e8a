"""Starts the logs of a run that is resumed in a new folder with those of the earlier run."""

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


def continue_logs(
    loggers: Iterable[Logger], run: Path, checkpoint: Path, step: int, rows: int
) -> None:
    """Copies what was logged before a checkpoint was saved from the run folder it is in.

    Args:
        loggers: Loggers of the new run; CSV and TensorBoard have files that can be continued.
        run: The new run folder.
        checkpoint: RUN/checkpoints/FILE of the earlier run; without its logs nothing happens.
        step: Optimiser steps of the checkpoint; events of later steps are dropped and repeated.
        rows: Rows of the CSV log at that moment; later ones are dropped and repeated.
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
                logger.experiment.metrics.extend(logged_rows(earlier / "metrics.csv")[:rows])
            else:
                _copy_events(earlier, folder, logger, step)
        except (OSError, ValueError, csv.Error) as error:  # lost logs are no reason to stop
            _log.warning("%s: expected the logs of the earlier run, got %s", earlier, error)


def logged_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file of metrics without their empty cells; empty if the file is missing.

    A killed run may have left an incomplete last row, with fewer cells than the others.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as text:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(text)]


def _copy_events(earlier: Path, folder: Path, logger: TensorBoardLogger, step: int) -> None:
    """Copies event files; TensorBoard shows the later of two values for the same step."""
    files = list(earlier.glob(EVENTS))
    if not files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    logger._kwargs["purge_step"] = step  # an argument of the writer, which is created on first use
