"""Draws the confusion matrices of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densekit.visualization.confusion import draw_confusion


class Confusion(Callback):
    """Draws `confusion_val.png` and `confusion_test.png` for heads with a confusion matrix.

    With several heads or data sets the file names include theirs.

    Args:
        folder: Where the images go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the confusion matrices of validation."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the confusion matrices of the test."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, lit: Any, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        found = {
            (source, head): table
            for source, metrics in lit.metric_sets(stage).items()
            for head, table in metrics.confusions().items()
        }
        for (source, head), (names, counts) in found.items():
            if counts.any():
                more = f"_{source}_{head}" if len(found) > 1 else ""
                draw_confusion(counts, names, self.folder / f"confusion_{stage}{more}.png")
