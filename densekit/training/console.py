"""Prints tables while a run goes on, above its progress bar if there is one."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.table import Table

from densekit._console import print_whole


def show(trainer: Trainer, table: Table) -> None:
    """Prints a table on standard output."""
    bar = trainer.progress_bar_callback
    live = bar.progress if isinstance(bar, RichProgressBar) else None
    if live is not None and live.live.is_started:
        live.console.print(table)  # another console would break the bar
    else:
        print_whole(table)
