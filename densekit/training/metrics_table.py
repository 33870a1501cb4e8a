"""Prints the metrics of each validation as a table in the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.table import Table

from densekit._console import table_of
from densekit.metrics.bootstrap import Interval
from densekit.training.intervals import logged_intervals
from densekit.training.sources import is_main, source_names


class MetricsTable(Callback):
    """Prints the main metrics after each validation, and all of them after a run or test.

    The main metrics are those of a whole data set (`AP`, not `AP/cat`), the one that checkpoints
    monitor first. Beside each stands its change since the previous validation, and its interval
    where `Intervals` has drawn one.
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
        ranges = {} if fitting else stage_intervals(trainer, pl_module, "val/")
        _print(trainer, table_with_changes(title, shown, self._before, ranges))
        self._before = metrics

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the last validation."""
        if self._before and trainer.is_global_zero:
            ranges = stage_intervals(trainer, pl_module, "val/")
            _print(trainer, table_with_changes("Last validation", self._before, {}, ranges))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the test."""
        if trainer.is_global_zero:
            metrics, ranges = (
                stage_metrics(trainer, "test/"),
                stage_intervals(trainer, pl_module, "test/"),
            )
            _print(trainer, table_with_changes("Test", metrics, {}, ranges))


def stage_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """Logged metrics of a stage ("val/" or "test/"), their names without the stage."""
    logged = trainer.callback_metrics
    watched = getattr(trainer.checkpoint_callback, "monitor", None)
    names = [name for name in logged if name.startswith(stage)]
    names.sort(key=lambda name: name != watched)
    return {name.removeprefix(stage): float(logged[name]) for name in names}


def stage_intervals(trainer: Trainer, lit: Any, stage: str) -> dict[str, Interval]:
    """Intervals of a stage ("val/" or "test/") by name without the stage."""
    found = logged_intervals(trainer, lit, stage.removesuffix("/"))
    return {name.removeprefix(stage): ends for name, ends in found.items()}


def table_with_changes(
    title: str,
    metrics: Mapping[str, float],
    before: Mapping[str, float],
    ranges: Mapping[str, Interval] = MappingProxyType({}),
) -> Table:
    """Lays out metrics as a table, with change since `before` and interval where there are any."""
    changes = any(name in before for name in metrics)
    rows = []
    for name, value in metrics.items():
        row = [name, "-" if math.isnan(value) else f"{value:.4f}"]
        change = value - before.get(name, math.nan)
        row += ["" if math.isnan(change) else f"{change:+.4f}"] * changes
        ends = f"{ranges[name].low:.4f} to {ranges[name].high:.4f}" if name in ranges else ""
        rows.append(row + [ends] * bool(ranges))
    columns = ["metric", "value", *["change"] * changes, *["95 % interval"] * bool(ranges)]
    return table_of(title, columns, rows)


def _print(trainer: Trainer, table: Table) -> None:
    bar = trainer.progress_bar_callback
    if isinstance(bar, RichProgressBar) and bar.progress is not None:
        bar.progress.console.print(table)  # another console would break the live progress bar
    else:
        Console(file=sys.stdout).print(table)
