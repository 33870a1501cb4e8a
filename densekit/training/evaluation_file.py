"""Keeps what metrics saw of every image, so that they can be measured again without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from densekit.evaluation import Evaluation, write_evaluation
from densekit.ops import dist
from densekit.training.image_paths import ImagePaths


class EvaluationFile(ImagePaths):
    """Writes `evaluation_val.npz` and `evaluation_test.npz`, which `densekit compare` reads.

    The validation's is written once, at the end: it is the last one.

    Args:
        folder: Where the files go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

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
        sets = lit.metric_sets(stage)
        if not sets:
            return
        paths: dict[str, dict[int, str]] = {source: {} for source in sets}
        for (source, image), path in self.gathered_paths().items():
            paths[source][image] = path
        if dist.rank() == 0:
            measured = [one for source, metrics in sets.items() for one in metrics.measured(source)]
            groups = {source: metrics.groups for source, metrics in sets.items()}
            file = self.folder / f"evaluation_{stage}.npz"
            write_evaluation(file, Evaluation(stage, measured, paths, groups))
