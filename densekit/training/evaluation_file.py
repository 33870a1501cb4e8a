"""Keeps what metrics saw of every image, so that they can be measured again without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densekit.evaluation import Evaluation, write_evaluation
from densekit.ops import dist
from densekit.training.sources import source_names


class EvaluationFile(Callback):
    """Writes `evaluation_val.npz` and `evaluation_test.npz`, which `densekit compare` reads.

    The validation's is written once, at the end: it is the last one.

    Args:
        folder: Where the files go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._paths: dict[str, dict[int, str]] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the images of the evaluation before."""
        self._paths = {}

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
        """Records the file paths of the images."""
        of_source = self._paths.setdefault(source_names(trainer)[dataloader_idx], {})
        for meta, truth in zip(batch["meta"], batch["truth"], strict=True):
            of_source[truth["image_id"]] = meta.get("path", "")

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

    def _write(self, lit: Any, stage: str) -> None:
        if not lit.metric_sets(stage):
            return
        paths: dict[str, dict[int, str]] = {source: {} for source in lit.metric_sets(stage)}
        for part in dist.gathered(self._paths):
            for source, of_source in part.items():
                paths[source] |= of_source
        if dist.rank() == 0:
            sets = lit.metric_sets(stage)
            measured = [one for source, metrics in sets.items() for one in metrics.measured(source)]
            groups = {source: metrics.groups for source, metrics in sets.items()}
            file = self.folder / f"evaluation_{stage}.npz"
            write_evaluation(file, Evaluation(stage, measured, paths, groups))
