"""Checkpoints: the last one for going on, the best ones by a metric, and no broken ones.

A file is written beside its place and renamed: a run that is killed while it saves leaves the
previous checkpoint whole.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

LAST = "last.ckpt"

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes `path` in one step, whatever file system the temporary folder is on.

    Lightning's own writer moves the file from the system's temporary folder, which is a copy, and
    can be cut off, where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Saves to a hidden neighbour, then renames it.

        Args:
            checkpoint: Tensors, numbers and strings.
            path: Target; a remote one is left to Lightning.
            storage_options: Must be None.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


class Checkpoint(ModelCheckpoint):
    """Saves `last.ckpt` at the end of every epoch, and `epoch_003.ckpt` where it is among the best.

    `last.ckpt` is also saved when the run is asked to end (SIGTERM), between two steps. An error
    saves nothing: what it leaves in memory is not worth going on with.

    Args:
        folder: Where the files go.
        monitor: Logged name that tells the best, e.g. "val/detection/AP"; None keeps the newest.
        mode: "max" or "min", what of `monitor` is best.
        keep: Number of best checkpoints to keep, -1 keeps all.
        every_n_epochs: Distance of the epochs that are candidates for the best.
        last_every_n_steps: Save `last.ckpt` also after every so many optimiser steps.
    """

    def __init__(
        self,
        folder: str | Path,
        monitor: str | None = None,
        mode: str = "max",
        keep: int = 1,
        every_n_epochs: int = 1,
        last_every_n_steps: int | None = None,
    ) -> None:
        super().__init__(
            dirpath=folder,
            filename="epoch_{epoch:03d}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_top_k=keep,
            every_n_epochs=every_n_epochs,
            enable_version_counter=False,
        )
        self.last_every_n_steps = last_every_n_steps
        self._last_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes every checkpoint of the run atomic."""
        with warnings.catch_warnings():
            # A resumed run goes on in its own folder.
            warnings.filterwarnings("ignore", message="Checkpoint directory")
            super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves within long epochs, if asked to."""
        step = trainer.global_step
        due = self.last_every_n_steps and step % self.last_every_n_steps == 0
        if due and step != self._last_step:  # the step stands still while gradients accumulate
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the best first: the last then knows of it."""
        super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves when the run is asked to end."""
        if isinstance(exception, SIGTERMException) and not trainer.sanity_checking:
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._last_step = trainer.global_step
        self.last_model_path = str(Path(str(self.dirpath)) / LAST)
        trainer.save_checkpoint(self.last_model_path)


def newest_checkpoint(path: str | Path) -> Path:
    """Finds the newest checkpoint that can be read, and says which ones cannot.

    Args:
        path: A checkpoint, or a folder of them. Of a broken file its neighbours are tried.

    Raises:
        ValueError: There is none, or none can be read.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    others = sorted(folder.glob("*.ckpt"), key=_time, reverse=True)
    candidates = others if path.is_dir() else [path, *(file for file in others if file != path)]
    if not path.exists() or not candidates:
        raise ValueError(f"no checkpoint at {path}: expected a file like {LAST} or their folder")
    for candidate in candidates:
        reason = _why_unreadable(candidate)
        if reason is None:
            if candidate != candidates[0]:
                logger.warning("going on with the previous checkpoint, %s", candidate)
            return candidate
        logger.warning("%s cannot be read: %s", candidate, reason)
    raise ValueError(f"none of the checkpoints in {folder} can be read: {candidates}")


def _time(path: Path) -> tuple[int, bool]:
    """When a file was written; within one tick of the clock the last one comes after the best."""
    return path.stat().st_mtime_ns, path.name == LAST


def _why_unreadable(path: Path) -> str | None:
    """What is wrong with the file, None if it loads as tensors, numbers and strings."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever its reader of zip and pickle runs into
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None
