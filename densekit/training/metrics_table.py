"""Prints the metrics of each validation as a table in the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.table import Table

from densekit._console import table_of
from densekit.training.sources import is_main, source_names


class MetricsTable(Callback):
    """Prints the main metrics after each validation, and all of them after a run or test.

    The main metrics are those of a whole data set (`AP`, not `AP/cat`), the one that checkpoints
    monitor first. Beside each stands its change since the previous validation.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the main metrics."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = stage_metrics(trainer, "val/")
        fitting = trainer.state.fn == "fit"
        title = f"Validation after epoch {trainer.current_epoch}" if fitting else "Validation"
        sources = len(source_names(trainer))
        main = {k: v for k, v in metrics.items() if is_main(k, sources)}
        shown = main if fitting else metrics
        _print(trainer, table_with_changes(title, shown, self._before))
        self._before = metrics

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the last validation."""
        if self._before and trainer.is_global_zero:
            _print(trainer, table_with_changes("Last validation", self._before, {}))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the test."""
        if trainer.is_global_zero:
            _print(trainer, table_with_changes("Test", stage_metrics(trainer, "test/"), {}))


def stage_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """Logged metrics of a stage ("val/" or "test/"), their names without the stage."""
    logged = trainer.callback_metrics
    watched = getattr(trainer.checkpoint_callback, "monitor", None)
    names = [name for name in logged if name.startswith(stage)]
    names.sort(key=lambda name: name != watched)
    return {name.removeprefix(stage): float(logged[name]) for name in names}


def table_with_changes(
    title: str, metrics: Mapping[str, float], before: Mapping[str, float]
) -> Table:
    """Lays out metrics as a table, with their change since `before` where that has them."""
    changes = any(name in before for name in metrics)
    rows = []
    for name, value in metrics.items():
        row = [name, "-" if math.isnan(value) else f"{value:.4f}"]
        change = value - before.get(name, math.nan)
        rows.append(row + ["" if math.isnan(change) else f"{change:+.4f}"] * changes)
    return table_of(title, ["metric", "value", *["change"] * changes], rows)


def _print(trainer: Trainer, table: Table) -> None:
    bar = trainer.progress_bar_callback
    if isinstance(bar, RichProgressBar) and bar.progress is not None:
        bar.progress.console.print(table)  # another console would break the live progress bar
    else:
        Console(file=sys.stdout).print(table)
