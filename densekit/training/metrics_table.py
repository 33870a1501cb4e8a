"""The metrics of each validation as a table in the terminal."""

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
    """Prints the main metrics after each validation, all of them at the end of a run or test.

    The main metrics are those of a whole data set: `AP`, not `AP/cat`; first comes the one that
    checkpoints are chosen by. The change since the validation before stands beside them.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the main metrics."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        figures = stage_figures(trainer, "val/")
        fitting = trainer.state.fn == "fit"
        title = f"Validation after epoch {trainer.current_epoch}" if fitting else "Validation"
        sources = len(source_names(trainer))
        main = {k: v for k, v in figures.items() if is_main(k, sources)}
        shown = main if fitting else figures
        _print(trainer, figures_table(title, shown, self._before))
        self._before = figures

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the last validation."""
        if self._before and trainer.is_global_zero:
            _print(trainer, figures_table("Last validation", self._before, {}))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints all metrics of the test."""
        if trainer.is_global_zero:
            _print(trainer, figures_table("Test", stage_figures(trainer, "test/"), {}))


def stage_figures(trainer: Trainer, stage: str) -> dict[str, float]:
    """Logged metrics of a stage ("val/", "test/") without its name."""
    logged = trainer.callback_metrics
    watched = getattr(trainer.checkpoint_callback, "monitor", None)
    names = [name for name in logged if name.startswith(stage)]
    names.sort(key=lambda name: name != watched)
    return {name.removeprefix(stage): float(logged[name]) for name in names}


def figures_table(title: str, figures: Mapping[str, float], before: Mapping[str, float]) -> Table:
    """Lays metrics out, with their change since `before` where it has the same name."""
    changes = any(name in before for name in figures)
    rows = []
    for name, value in figures.items():
        row = [name, "-" if math.isnan(value) else f"{value:.4f}"]
        change = value - before.get(name, math.nan)
        rows.append(row + ["" if math.isnan(change) else f"{change:+.4f}"] * changes)
    return table_of(title, ["metric", "value", *["change"] * changes], rows)


def _print(trainer: Trainer, table: Table) -> None:
    bar = trainer.progress_bar_callback
    if isinstance(bar, RichProgressBar) and bar.progress is not None:
        bar.progress.console.print(table)  # another console would tear the living bar
    else:
        Console(file=sys.stdout).print(table)
