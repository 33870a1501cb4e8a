"""Draws the first training batch of a run, and predictions beside the ground truth."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from densekit._names import foreground, readable
from densekit.metrics.thresholds import threshold_of_classes
from densekit.ops import dist
from densekit.training.batch_pictures import draw_batch, draw_result
from densekit.training.chosen_images import Chosen, by_value, evenly
from densekit.training.ema import evaluated_weights
from densekit.training.logged_pictures import log_picture
from densekit.training.sources import source_heads, source_names
from densekit.types import Batch, Result, chosen_objects
from densekit.visualization.images import Picture, at_most, save_picture
from densekit.visualization.panels import grid, with_title

LOADER_COLUMNS = 4
CONFIDENT = 0.5
"""Score of the boxes that are drawn where no threshold was measured."""
LOGGED_SIDE = 1600
"""Longer side in pixels of what loggers receive, at every validation."""
VOLUMES = 3
"""Most volumes of a data set that are drawn: each is predicted once more."""

Seen = dict[tuple[str, int], tuple[int, str]]
"""Data set and image id to the index of the image in the data set, and its path."""


@runtime_checkable
class LoadsByIndex(Protocol):
    """An evaluation loader whose images can be loaded one by one, as those of `data` can."""

    def batch_of(self, index: int) -> Batch:
        """The image with an index as a batch of one."""


class RunPictures(Callback):
    """Saves `loader.png` from the first training batch and `predictions.png` after validation.

    Of every data set the worst, the median and the best images are drawn, by the first value per
    image that its metrics have, as in `cases_val.csv`; without one, images at equal distances. They
    are predicted once more, as no prediction is kept. Loggers that show pictures receive this one
    too. Without a validation split the predictions are those of the test.

    Boxes, masks with a legend and categories (as titles) are drawn, from targets and results of any
    head; a volume is shown by the slice with the most foreground, a series as lines.

    Args:
        folder: Where the image files go.
        images: Number of images in each file and of each data set, of volumes at most 3.
        min_score: Boxes with lower scores are not drawn. By default that is the threshold which the
            evaluation has measured for their class, as for the values per image, else 0.5.
    """

    def __init__(self, folder: str | Path, images: int = 6, min_score: float | None = None) -> None:
        self.folder = Path(folder)
        self.images = images
        self.min_score = min_score
        self._fed = self._validated = False
        self._seen: Seen = {}
        self._dims = 2

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

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the images of the evaluation before."""
        self._seen = {}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Records which images there are."""
        source = source_names(trainer)[dataloader_idx]
        self._dims = batch["image"].ndim - 2
        for index, meta, truth in zip(
            batch["key"].tolist(), batch["meta"], batch["truth"], strict=True
        ):
            self._seen[source, truth["image_id"]] = (index, meta.get("path", ""))

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and saves the predictions."""
        if not trainer.sanity_checking:
            self._validated = True
            loaders: Any = trainer.val_dataloaders
            with trainer.precision_plugin.val_step_context():
                self._save(trainer, pl_module, "val", loaders)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and saves the predictions of the test if there was no validation."""
        if not self._validated:
            loaders: Any = trainer.test_dataloaders
            with trainer.precision_plugin.test_step_context():
                self._save(trainer, pl_module, "test", loaders)

    def _save(self, trainer: Trainer, lit: Any, stage: str, loaders: Any) -> None:
        seen = {key: place for part in dist.gathered(self._seen) for key, place in part.items()}
        rows: list[Picture] = []
        # All processes predict the same images: the weights may be divided over them.
        gathered = getattr(trainer.strategy, "gathered", nullcontext)
        with torch.no_grad(), evaluated_weights(trainer, lit), gathered():
            for source, loader in zip(source_names(trainer), loaders, strict=False):
                if isinstance(loader, LoadsByIndex):
                    for chosen in self._chosen(lit, stage, source, seen):
                        index, path = seen[source, chosen.image_id]
                        name = readable(Path(path).name) or f"image {chosen.image_id}"
                        title = f"{chosen.title}, {name}" if chosen.title else name
                        drawn = self._draw(trainer, lit, stage, source, loader.batch_of(index))
                        rows += [with_title(picture, title) for picture in drawn]
        if not rows or not trainer.is_global_zero:
            return
        picture = grid(rows, 1)
        save_picture(picture, self.folder / "predictions.png")
        for logger in trainer.loggers:
            send = getattr(logger, "log_picture", partial(log_picture, logger))
            send(f"{stage}/predictions", at_most(picture, LOGGED_SIDE), trainer.global_step)

    def _chosen(self, lit: Any, stage: str, source: str, seen: Seen) -> list[Chosen]:
        count = min(self.images, VOLUMES) if self._dims == 3 else self.images
        cases = lit.metric_sets(stage)[source].case_values()
        if cases is not None and (found := by_value(cases, count)):
            return found
        own = sorted((index, image) for (of, image), (index, _) in seen.items() if of == source)
        return evenly([image for _, image in own], count)

    def _draw(
        self, trainer: Trainer, lit: Any, stage: str, source: str, batch: Batch
    ) -> list[Picture]:
        """One picture per head whose kind of result the ground truth has."""
        moved = trainer.strategy.batch_to_device(batch)
        (result,) = lit.results(stage, moved)
        heads = source_heads(trainer, source)
        shown = {n: self._confident(lit, stage, source, n, result[n]) for n in heads or result}
        names, classes = class_names(trainer, lit, source), mask_classes(trainer, lit, source)
        return draw_result(moved, 0, shown, names, 0.0, classes)

    def _confident(self, lit: Any, stage: str, source: str, head: str, result: Result) -> Result:
        """The result with the boxes that are drawn."""
        if "boxes" not in result:
            return result
        names = lit.model.info.get("heads", {}).get(head, {}).get("names", ())
        least, facts = self.min_score, {}
        if least is None:
            least, facts = CONFIDENT, lit.metric_sets(stage)[source].facts(head)
        of_classes = threshold_of_classes(facts, names, least)
        kept = result["scores"] >= (of_classes[result["labels"]] if len(names) else least)
        return chosen_objects(result, kept)


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
