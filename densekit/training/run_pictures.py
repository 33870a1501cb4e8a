"""Draws the first training batch of a run, and predictions beside the ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densekit._names import foreground
from densekit.training.batch_pictures import draw_batch, draw_result
from densekit.training.sources import source_heads, source_names
from densekit.visualization.images import Picture, save_picture
from densekit.visualization.panels import grid

LOADER_COLUMNS = 4


class RunPictures(Callback):
    """Saves `loader.png` from the first training batch and `predictions.png` after validation.

    Without a validation split the predictions are those of the test. Boxes, masks with a legend and
    categories (as titles) are drawn, from targets and results of any head; a volume is shown by the
    slice with the most foreground, a series as lines.

    Args:
        folder: Where the image files go.
        images: Number of images in each, the first ones of the loader.
        min_score: Predictions with lower scores are not drawn.
    """

    def __init__(self, folder: str | Path, images: int = 8, min_score: float = 0.5) -> None:
        self.folder = Path(folder)
        self.images = images
        self.min_score = min_score
        self._fed = self._validated = False
        self._rows: list[Picture] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draws the first batch of the run exactly as the network receives it."""
        if self._fed or not trainer.is_global_zero:
            return
        self._fed = True
        cells = []
        for source, of_source in batch.items():
            names = class_names(trainer, pl_module, source)
            classes = mask_classes(trainer, pl_module, source)
            cells += draw_batch(of_source, names, self.images, classes)
        if cells:
            save_picture(grid(cells, LOADER_COLUMNS), self.folder / "loader.png")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the first images, which are the same after every epoch."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        source = source_names(trainer)[dataloader_idx]
        names, heads = class_names(trainer, pl_module, source), source_heads(trainer, source)
        classes = mask_classes(trainer, pl_module, source)
        for row, result in enumerate(outputs["results"]):
            if len(self._rows) >= self.images * (dataloader_idx + 1):
                return
            if batch["sample_valid"][row]:
                expected = {name: result[name] for name in heads or result}
                self._rows += draw_result(batch, row, expected, names, self.min_score, classes)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the drawn predictions."""
        self._validated = True
        self._save()

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Draws the first test images if there was no validation."""
        if not self._validated:
            self.on_validation_batch_end(trainer, *arguments, **named)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the predictions drawn in the test."""
        self._save()

    def _save(self) -> None:
        if self._rows:
            save_picture(grid(self._rows, 1), self.folder / "predictions.png")
        self._rows = []


def class_names(trainer: Trainer, pl_module: LightningModule, source: str) -> list[str]:
    """Class names of a data set's first head that has some and does not predict masks."""
    known = _known(trainer, pl_module, source, of_masks=False)
    return list(known["names"]) if known else []


def mask_classes(trainer: Trainer, pl_module: LightningModule, source: str) -> dict[int, str]:
    """Mask value to class name of a data set's first head that predicts masks."""
    known = _known(trainer, pl_module, source, of_masks=True)
    return foreground(known) if known else {}


def _known(
    trainer: Trainer, pl_module: LightningModule, source: str, *, of_masks: bool
) -> dict[str, Any] | None:
    """Entry of `info["heads"]` for the first head that has names and does (not) predict masks.

    One data set may have both: masks count the background among the classes, boxes do not.
    """
    model: Any = pl_module.model
    known: dict[str, Any] = model.info.get("heads", {})
    for head in source_heads(trainer, source) or tuple(known):
        found: dict[str, Any] = known.get(head, {})
        if found.get("names") and ("mask" in model.heads[head].target_keys) is of_masks:
            return found
    return None
