"""Writes the metrics of a run to one flat JSON file, for scripts and for comparing runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from densekit._files import write_json
from densekit.training.ending import why_ended
from densekit.training.intervals import logged_intervals

STAGES = ("val/", "test/")


class MetricsFile(Callback):
    """Writes `{"val/detection/AP": 0.41, ...}` after every validation and test.

    NaN and infinite values become null, since JSON has no NaN. `intervals` maps names of metrics to
    `[low, high]` where `Intervals` has drawn them. `epoch` and `step` identify the weights that
    were evaluated last; `stopped` says why the training ended.

    Args:
        path: The file; it is overwritten.
        reached: `epoch` and `step` of weights that were not loaded through the trainer, as far as
            known.
    """

    def __init__(self, path: str | Path, reached: Mapping[str, int] | None = None) -> None:
        self.path = Path(path)
        self.reached = reached
        self.values: dict[str, Any] = {}
        self._loaded: dict[str, int] = {}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Records the checkpoint's epoch and step, which an evaluation does not load."""
        self._loaded = {"epoch": checkpoint["epoch"], "step": checkpoint["global_step"]}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the metrics of validation."""
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the metrics of the test."""
        self._write(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds which limit ended the training, and the intervals of the last validation."""
        self._note_intervals(trainer, pl_module, "val")
        self._end(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds it for a resumed run that had nothing left to train."""
        if "stopped" not in self.values:
            self._end(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Adds the signal or the error that ended the training."""
        if trainer.state.fn == TrainerFn.FITTING:
            with suppress(OSError):  # the exception is what must be seen
                self._end(trainer, exception)

    def _write(self, trainer: Trainer, lit: LightningModule, stage: str) -> None:
        self.values |= json_metrics(trainer.callback_metrics)
        self._note_intervals(trainer, lit, stage)
        self.values |= self._reached(trainer)
        self._save(trainer)

    def _note_intervals(self, trainer: Trainer, lit: LightningModule, stage: str) -> None:
        """Replaces those of the stage."""
        kept = self.values.pop("intervals", {}).items()
        other = {name: ends for name, ends in kept if not name.startswith(f"{stage}/")}
        found = {name: list(e) for name, e in logged_intervals(trainer, lit, stage).items()}
        if other | found:
            self.values["intervals"] = other | found

    def _end(self, trainer: Trainer, error: BaseException | None = None) -> None:
        self.values["stopped"] = why_ended(trainer, error)
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            write_json(self.path, self.values)

    def _reached(self, trainer: Trainer) -> Mapping[str, int]:
        if trainer.state.fn != TrainerFn.FITTING:
            if self.reached is not None:
                return self.reached
            if trainer.ckpt_path:
                return self._loaded
        return {"epoch": trainer.current_epoch, "step": trainer.global_step}


def json_metrics(metrics: Mapping[str, Tensor]) -> dict[str, float | int | None]:
    """Converts metrics of validation and test to JSON values, None for NaN and infinity."""
    values = {name: float(value) for name, value in metrics.items() if name.startswith(STAGES)}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
