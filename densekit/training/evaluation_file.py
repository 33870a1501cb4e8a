"""Keeps what metrics saw of every image, so that they can be measured again without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from densekit.evaluation import Evaluation, Maps, write_evaluation
from densekit.ops import dist
from densekit.training.image_paths import ImagePaths
from densekit.training.sources import source_heads, source_names
from densekit.types import Result, Truth
from densekit.visualization.label_maps import label_map


class EvaluationFile(ImagePaths):
    """Writes `evaluation_val.npz` and `evaluation_test.npz`, for `densekit compare` and `report`.

    The validation's is written once, at the end: it is the last one.

    Args:
        folder: Where the files go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._maps: Maps = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the images of the evaluation before."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._maps = {}

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
        """Records the paths of a batch, and small masks of its images."""
        super().on_validation_batch_end(
            trainer, pl_module, outputs, batch, batch_idx, dataloader_idx
        )
        source = source_names(trainer)[dataloader_idx]
        heads = source_heads(trainer, source)
        dims = batch["image"].ndim - 2
        if dims == 1:  # a series is no picture
            return
        for truth, results in zip(batch["truth"], outputs["results"], strict=True):
            for head in heads or results:
                self._note_masks((source, head), truth, results[head], dims)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file of `densekit eval`."""
        if trainer.state.fn != "fit":
            self._write(pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file of the test."""
        self._write(pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file of the last validation."""
        if pl_module.validated_step is not None:  # else there was a sanity check at most
            self._write(pl_module, "val")

    def _note_masks(self, key: tuple[str, str], truth: Truth, result: Result, dims: int) -> None:
        """Keeps the annotated and the predicted mask of an image, where the head predicts one."""
        if "mask" not in truth or "mask" not in result:
            return
        if truth["mask"].shape == np.shape(result["mask"]):  # else it is another kind of mask
            of_images = self._maps.setdefault(key, {})
            of_images[truth["image_id"]] = label_map(truth["mask"], result["mask"], dims)

    def _write(self, lit: Any, stage: str) -> None:
        sets = lit.metric_sets(stage)
        if not sets:
            return
        paths: dict[str, dict[int, str]] = {source: {} for source in sets}
        for (source, image), path in self.gathered_paths().items():
            paths[source][image] = path
        maps: Maps = {}
        for part in dist.gathered(self._maps):
            for key, of_images in part.items():
                maps.setdefault(key, {}).update(of_images)
        if dist.rank() == 0:
            measured = [one for source, metrics in sets.items() for one in metrics.measured(source)]
            groups = {source: metrics.groups for source, metrics in sets.items()}
            file = self.folder / f"evaluation_{stage}.npz"
            write_evaluation(file, Evaluation(stage, measured, paths, groups, maps))
