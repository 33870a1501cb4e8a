"""What callbacks share that name the images of an evaluation."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densekit.ops import dist
from densekit.training.sources import source_names

Paths = dict[tuple[str, int], str]
"""Data set and image id to the path of the image."""


class ImagePaths(Callback):
    """Base of callbacks that need the paths of the images of an evaluation at its end."""

    def __init__(self) -> None:
        self._paths: Paths = {}

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
        """Records the paths of a batch."""
        source = source_names(trainer)[dataloader_idx]
        for meta, truth in zip(batch["meta"], batch["truth"], strict=True):
            self._paths[source, truth["image_id"]] = meta.get("path", "")

    on_test_batch_end = on_validation_batch_end

    def gathered_paths(self) -> Paths:
        """The paths that all processes recorded; all must call it."""
        return {key: path for part in dist.gathered(self._paths) for key, path in part.items()}
