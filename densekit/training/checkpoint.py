"""Checkpoints: the last one to resume from, and the best ones by a metric."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from densekit._files import replacing
from densekit.ops.dist import max_over_processes
from densekit.training.checkpoint_files import LAST, is_whole
from densekit.training.checkpoint_io import AtomicCheckpointIO
from densekit.training.loop_state import (
    forget_cut_off,
    go_to_validation,
    is_accumulating,
    is_last_batch,
    validation_is_due,
)

BY_EPOCH = "epoch_{epoch:03d}"
BY_STEP = "epoch_{epoch:03d}_step_{step:06d}"

logger = logging.getLogger(__name__)


class Checkpoint(ModelCheckpoint):
    """Saves `last.ckpt` after every epoch, and `epoch_003.ckpt` if that epoch is among the best.

    If validation runs several times per epoch or independently of epochs (`val_check_interval`,
    `check_val_every_n_epoch: null`), the names are `epoch_003_step_001200.ckpt`.

    NaN and infinite metrics are never the best. Until a finite one is logged, the newest checkpoint
    is kept in place of the best.

    A resumed run continues with the best checkpoints so far; their files are brought into its
    folder.

    `last.ckpt` is also saved when the run is asked to end (SIGTERM, Ctrl-C), between two optimiser
    steps: a gradient accumulation is completed first. After an error nothing is saved, because the
    state in memory may be broken.

    Args:
        folder: Where the files go.
        monitor: Logged metric that determines the best, e.g. "val/detection/AP"; None keeps the
            newest.
        mode: Whether the "max" or the "min" of `monitor` is best.
        keep: Number of best checkpoints to keep, -1 keeps all.
        every_n_epochs: Only every n-th epoch is a candidate for the best.
        last_every_n_steps: Also save `last.ckpt` every n optimiser steps.
        every_minutes: Also save `last.ckpt` at this interval.
    """

    def __init__(
        self,
        folder: str | Path,
        monitor: str | None = None,
        mode: str = "max",
        keep: int = 1,
        every_n_epochs: int = 1,
        last_every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        super().__init__(
            dirpath=folder,
            filename=BY_EPOCH,
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_top_k=keep,
            every_n_epochs=every_n_epochs,
            enable_version_counter=False,
        )
        self.last_every_n_steps = last_every_n_steps
        self.every_minutes = every_minutes
        self._last_step = 0
        self._fitting: Trainer | None = None
        self._last_time = 0.0
        self._is_asked_to_end = False
        self._is_before_validation = False
        self._has_begun = False
        self._epoch_end = -1
        self._resumed_epoch = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the trainer write checkpoints atomically."""
        with warnings.catch_warnings():
            # A resumed run continues in its own folder.
            warnings.filterwarnings("ignore", message="Checkpoint directory")
            super().setup(trainer, pl_module, stage)
        self._fitting = trainer if stage == "fit" else None
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of `every_minutes`."""
        super().on_train_start(trainer, pl_module)
        self._last_time = time.monotonic()
        self._has_begun = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the state of a resumed run that had nothing left to train."""
        super().on_fit_end(trainer, pl_module)
        if not self._has_begun:
            rank_zero_info("Nothing left to train: the run has already reached its end.")
            self._save_last(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves `last.ckpt` if it is due; delays the end of a run to the next optimiser step."""
        signals = trainer._signal_connector
        self._is_asked_to_end |= signals.received_sigterm
        if is_accumulating(trainer):
            signals.received_sigterm = False
            return
        signals.received_sigterm = self._is_asked_to_end
        if self._is_asked_to_end or not self._is_due(trainer, pl_module):
            return
        self._is_before_validation = validation_is_due(trainer)
        # Just before the end of an epoch, which saves too, Lightning could not resume.
        if self._is_before_validation or not is_last_batch(trainer):
            self._save_last(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restarts validation from its first batch in a run that was interrupted within it."""
        forget_cut_off(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks the checkpoint if a validation is still due."""
        if not self._has_begun:
            checkpoint["epoch"] = self._resumed_epoch
        if self._is_before_validation:
            go_to_validation(checkpoint)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the best first, so that `last.ckpt` refers to it."""
        super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)
        self._epoch_end = trainer.global_step

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves when a training is asked to end; an evaluation has nothing to save."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        saved = self._epoch_end == trainer.global_step  # counters have gone on since
        if isinstance(exception, SIGTERMException) and training and not saved:
            self._is_before_validation = trainer.validating
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warns if there was no validation, or if the monitored metric was never finite."""
        super().on_train_end(trainer, pl_module)
        never = self.monitor and self.save_top_k != 0 and not self.best_k_models
        if trainer.is_global_zero and never:
            logger.warning("the run ended before its first validation: only %s is kept", LAST)
        if trainer.is_global_zero and self.best_k_models and not self._defined():
            logger.warning(
                "callbacks.checkpoint.monitor: expected a finite %s, got none in any validation;"
                " %s, the newest checkpoint, is kept in place of the best",
                *(self.monitor, Path(self.best_model_path).name),
            )

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the epoch, of which nothing may be left to train."""
        self._resumed_epoch = checkpoint["epoch"]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best checkpoints of a resumed run into this run's folder.

        Evaluations do not take them over.
        """
        if self._fitting is None:
            return
        self.current_score = state_dict["current_score"]
        self.last_model_path = str(Path(str(self.dirpath)) / LAST) * bool(
            state_dict["last_model_path"]
        )
        scores: dict[str, Tensor] = state_dict["best_k_models"]
        newest: str = state_dict["best_model_path"]  # without a monitor there is no score
        moved = self._taken_over(self._fitting, dict.fromkeys((*scores, newest)) if newest else ())
        self.best_k_models = {moved[old]: scores[old] for old in scores if old in moved}
        self.best_model_path = moved.get(newest, "")
        if not self.best_k_models:
            return
        better = max if self.mode == "max" else min
        worse = min if self.mode == "max" else max
        self.best_model_path = better(self.best_k_models, key=self._score)
        self.best_model_score = self.best_k_models[self.best_model_path]
        self.kth_best_model_path = worse(self.best_k_models, key=self._score)
        self.kth_value = self.best_k_models[self.kth_best_model_path]

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint is among the best; with a non-finite score only while all are so."""
        if current is None or torch.isfinite(current):
            return super().check_monitor_top_k(trainer, current)
        return self.save_top_k == -1 or not self._defined()

    def _update_best_and_save(
        self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        if not torch.isfinite(current):
            current = torch.full_like(current, torch.nan)  # the worst value to Lightning
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if not self._defined():
            self.best_model_path = next(reversed(self.best_k_models))

    def _get_metric_interpolated_filepath_name(
        self,
        monitor_candidates: dict[str, Tensor],
        trainer: Trainer,
        del_filepath: str | None = None,
    ) -> str:
        self.filename = BY_STEP if _validates_within_epochs(trainer) else BY_EPOCH
        return super()._get_metric_interpolated_filepath_name(
            monitor_candidates, trainer, del_filepath
        )

    def _defined(self) -> bool:
        """Whether the score of any checkpoint is finite."""
        return any(bool(torch.isfinite(score)) for score in self.best_k_models.values())

    def _score(self, path: str) -> float:
        return float(self.best_k_models[path])

    def _taken_over(self, trainer: Trainer, old: Iterable[str]) -> Mapping[str, str]:
        """Brings checkpoints into this run's folder; returns old to new path of those found."""
        folder, beside = Path(str(self.dirpath)), Path(str(trainer.ckpt_path)).parent
        moved: dict[str, str] = {}
        for path in old if trainer.is_global_zero else ():
            target = folder / Path(path).name
            # The folder may have been moved or copied since, so the resumed file's comes first.
            found = [file for file in (beside / target.name, Path(path)) if is_whole(file)]
            if found:
                _link_or_copy(found[0], target)
                moved[path] = str(target)
            else:
                logger.warning(
                    "%s: one of the best checkpoints so far is missing, also from %s; the best of"
                    " the others and of those to come is kept",
                    *(path, beside),
                )
        shared: Mapping[str, str] = trainer.strategy.broadcast(moved)
        return shared

    def _is_due(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        step = trainer.global_step
        if self.last_every_n_steps and step % self.last_every_n_steps == 0:
            return step != self._last_step
        if self.every_minutes is None:
            return False
        passed = torch.tensor(time.monotonic() - self._last_time, device=pl_module.device)
        return float(max_over_processes(passed)) >= 60 * self.every_minutes

    def _save_last(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._last_step, self._last_time = trainer.global_step, time.monotonic()
            self.last_model_path = str(Path(str(self.dirpath)) / LAST)
            trainer.save_checkpoint(self.last_model_path, weights_only=False)
        self._is_before_validation = False


def _validates_within_epochs(trainer: Trainer) -> bool:
    """Whether the epoch number does not identify a validation."""
    return (
        trainer.check_val_every_n_epoch is None
        or trainer.val_check_batch is None  # by time
        or trainer.val_check_batch < trainer.num_training_batches
    )


def _link_or_copy(file: Path, target: Path) -> None:
    """Puts a checkpoint, which never changes, into another folder; as a hard link if possible."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(file)
    except OSError:  # another file system
        with replacing(target) as part:
            shutil.copyfile(file, part)
