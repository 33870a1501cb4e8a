"""Checkpoints: the last one for going on, the best ones by a metric, and no broken ones.

A file is written beside its place and renamed: a run that is killed while it saves leaves the
previous checkpoint whole.
"""

from __future__ import annotations

import logging
import os
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
from densekit.training.place import (
    forget_cut_off,
    go_to_validation,
    is_accumulating,
    validation_is_due,
)

LAST = "last.ckpt"
BY_EPOCH = "epoch_{epoch:03d}"
BY_STEP = "epoch_{epoch:03d}_step_{step:06d}"

logger = logging.getLogger(__name__)


class UnwritableError(OSError):
    """A checkpoint could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes `path` in one step, whatever file system the temporary folder is on.

    Lightning's own writer moves the file from the system's temporary folder, which is a copy, and
    can be cut off, where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Saves beside the target, waits until the disk has it, then moves it there.

        Args:
            checkpoint: Tensors, numbers and strings.
            path: Target; a remote one is left to Lightning.
            storage_options: Must be None.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            with replacing(target) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer says what it is in its own words
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UnwritableError(
                f"{target}: expected to be written, got: {reason}; the checkpoints before it are"
                " whole"
            ) from error


class Checkpoint(ModelCheckpoint):
    """Saves `last.ckpt` at the end of every epoch, and `epoch_003.ckpt` where it is among the best.

    Where an epoch has several validations, or epochs do not count (`val_check_interval`,
    `check_val_every_n_epoch: null`), the names are `epoch_003_step_001200.ckpt`.

    A metric that is not a number is never the best. As long as there is none that is one, the
    newest checkpoint is kept in place of the best.

    A resumed run goes on from the best so far: its files are brought into the new folder.

    `last.ckpt` is also saved when the run is asked to end (SIGTERM, Ctrl-C), between two optimiser
    steps: gradients that are being accumulated get their remaining batches first. An error saves
    nothing: what it leaves in memory is not worth going on with.

    Args:
        folder: Where the files go.
        monitor: Logged name that tells the best, e.g. "val/detection/AP"; None keeps the newest.
        mode: "max" or "min", what of `monitor` is best.
        keep: Number of best checkpoints to keep, -1 keeps all.
        every_n_epochs: Distance of the epochs that are candidates for the best.
        last_every_n_steps: Save `last.ckpt` also after every so many optimiser steps.
        every_minutes: Save `last.ckpt` also after so many minutes.
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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes every checkpoint of the run atomic."""
        with warnings.catch_warnings():
            # A resumed run goes on in its own folder.
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
        """Keeps the state of a resumed run that had nothing left to train."""
        super().on_fit_end(trainer, pl_module)
        if not self._has_begun:
            rank_zero_info("Nothing was left to train: the run had reached its end.")
            self._save_last(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves within long epochs, if asked to; lets no run end within an optimiser step."""
        signals = trainer._signal_connector
        self._is_asked_to_end |= signals.received_sigterm
        if is_accumulating(trainer):
            signals.received_sigterm = False
            return
        signals.received_sigterm = self._is_asked_to_end
        if not self._is_asked_to_end and self._is_due(trainer, pl_module):
            self._is_before_validation = validation_is_due(trainer)
            self._save_last(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts its batches from the first one, also in a run that was cut off in it."""
        forget_cut_off(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes that a validation is still to be done."""
        if self._is_before_validation:
            go_to_validation(checkpoint)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the best first: the last then knows of it."""
        super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves when the run is asked to end; weights that are only measured are saved already."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if isinstance(exception, SIGTERMException) and training:
            self._is_before_validation = trainer.validating
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says if nothing has told the best, or never by a number."""
        super().on_train_end(trainer, pl_module)
        never = self.monitor and self.save_top_k != 0 and not self.best_k_models
        if trainer.is_global_zero and never:
            logger.warning("the run ended before its first validation: only %s is kept", LAST)
        if trainer.is_global_zero and self.best_k_models and not self._defined():
            logger.warning(
                "callbacks.checkpoint.monitor: expected a number of %s, got none in any"
                " validation; %s, the newest checkpoint, is kept in place of the best",
                *(self.monitor, Path(self.best_model_path).name),
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the best checkpoints of the run that is resumed, in the own folder.

        Only a training takes them over: weights that are measured change nothing.
        """
        if self._fitting is None:
            return
        scores: dict[str, Tensor] = state_dict["best_k_models"]
        newest: str = state_dict["best_model_path"]  # without a monitor there is no score
        places = self._carried(self._fitting, dict.fromkeys((*scores, newest)) if newest else ())
        self.best_k_models = {places[old]: scores[old] for old in scores if old in places}
        self.best_model_path = places.get(newest, "")
        if not self.best_k_models:
            return
        better = max if self.mode == "max" else min
        worse = min if self.mode == "max" else max
        self.best_model_path = better(self.best_k_models, key=self._score)
        self.best_model_score = self.best_k_models[self.best_model_path]
        self.kth_best_model_path = worse(self.best_k_models, key=self._score)
        self.kth_value = self.best_k_models[self.kth_best_model_path]

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether a checkpoint is among the best; without a number only while none has one."""
        if current is None or torch.isfinite(current):
            return super().check_monitor_top_k(trainer, current)
        return self.save_top_k == -1 or not self._defined()

    def _update_best_and_save(
        self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        if not torch.isfinite(current):
            current = torch.full_like(current, torch.nan)  # the worst there is, to Lightning
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
        """Whether some checkpoint has a number to be judged by."""
        return any(bool(torch.isfinite(score)) for score in self.best_k_models.values())

    def _score(self, path: str) -> float:
        return float(self.best_k_models[path])

    def _carried(self, trainer: Trainer, old: Iterable[str]) -> Mapping[str, str]:
        """Old to new path of the files that could be brought into the own folder."""
        folder, beside = Path(str(self.dirpath)), Path(str(trainer.ckpt_path)).parent
        places: dict[str, str] = {}
        for path in old if trainer.is_global_zero else ():
            target = folder / Path(path).name
            # The folder may have been moved or copied since: what lies beside comes first.
            found = [file for file in (beside / target.name, Path(path)) if _is_whole(file)]
            if found:
                _bring(found[0], target)
                places[path] = str(target)
            else:
                logger.warning(
                    "%s: one of the best checkpoints so far is neither there nor in %s; the best"
                    " of the others and of what is to come is kept",
                    *(path, beside),
                )
        carried: Mapping[str, str] = trainer.strategy.broadcast(places)
        return carried

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
    """Whether the epoch alone does not tell two validations apart."""
    return (
        trainer.check_val_every_n_epoch is None
        or trainer.val_check_batch is None  # by time
        or trainer.val_check_batch < trainer.num_training_batches
    )


def _is_whole(file: Path) -> bool:
    return file.suffix == ".ckpt" and file.is_file() and _why_unreadable(file) is None


def _bring(file: Path, target: Path) -> None:
    """Puts a checkpoint into another folder; written once, it is shared where that is possible."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(file)
    except OSError:  # another file system
        with replacing(target) as part:
            shutil.copyfile(file, part)


def furthest_checkpoint(path: str | Path) -> Path:
    """Finds the checkpoint of a run that has got furthest, and says which ones cannot be read.

    Args:
        path: A checkpoint, or a folder of them. Of a broken file its neighbours are tried. Times of
            files tell nothing: a copied folder has new ones.

    Raises:
        ValueError: There is none, or none can be read.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.ckpt"))
    if not path.exists() or not files:
        raise ValueError(f"no checkpoint at {path}: expected a file like {LAST} or their folder")
    if path.is_file() and _readable(path):
        return path
    whole = [file for file in files if file != path and _readable(file)]
    if not whole:
        raise ValueError(f"none of the checkpoints in {folder} can be read: {files}")
    # Of one step the last knows most: it is written after the best.
    found = max(whole, key=lambda file: (*progress(file), file.name == LAST))
    if len(whole) < len(files):
        logger.warning("going on with the previous checkpoint, %s", found)
    return found


def best_checkpoint(folder: Path) -> Path:
    """The best checkpoint of a folder by what its furthest one knows, else the furthest itself.

    Raises:
        ValueError: There is none, or none can be read.
    """
    furthest = furthest_checkpoint(folder)
    content = torch.load(furthest, map_location="cpu", weights_only=True, mmap=True)
    for state in content.get("callbacks", {}).values():
        best = state.get("best_model_path") if isinstance(state, Mapping) else None
        if best:  # by name: the folder may have been moved or copied
            file = folder / Path(best).name
            if _is_whole(file):
                return file
            logger.warning("%s, the best checkpoint, is not there or damaged", file)
    return furthest


def progress(path: Path) -> tuple[int, int]:
    """Optimiser steps and epoch that a readable checkpoint is in, (-1, -1) of weights alone."""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(content.get("global_step", -1)), int(content.get("epoch", -1))


def _readable(path: Path) -> bool:
    reason = _why_unreadable(path)
    if reason is not None:
        logger.warning("%s cannot be read: %s", path, reason)
    return reason is None


def _why_unreadable(path: Path) -> str | None:
    """What is wrong with the file, None if it loads as tensors, numbers and strings."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever its reader of zip and pickle runs into
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None
