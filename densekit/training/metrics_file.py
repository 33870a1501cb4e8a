"""The metrics of a run as one flat JSON file, for scripts and for comparing runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from densekit._files import write_json

STAGES = ("val/", "test/")


class MetricsFile(Callback):
    """Writes `{"val/detection/AP": 0.41, ...}` after every validation and test.

    A metric that could not be measured, NaN or infinite, is null: JSON knows no NaN. `epoch` and
    `step` tell which weights were measured last.

    Args:
        path: The file; it is overwritten.
        reached: `epoch` and `step` of weights that were loaded before the trainer had them, as far
            as they are known.
    """

    def __init__(self, path: str | Path, reached: Mapping[str, int] | None = None) -> None:
        self.path = Path(path)
        self.reached = reached
        self.figures: dict[str, float | int | None] = {}
        self._loaded: dict[str, int] = {}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes whose weights these are: measuring a checkpoint leaves the trainer's step alone."""
        self._loaded = {"epoch": checkpoint["epoch"], "step": checkpoint["global_step"]}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the metrics of validation."""
        if not trainer.sanity_checking:
            self._write(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the metrics of the test."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self.figures |= json_figures(trainer.callback_metrics)
        self.figures |= self._reached(trainer)
        write_json(self.path, self.figures)

    def _reached(self, trainer: Trainer) -> Mapping[str, int]:
        if trainer.state.fn != TrainerFn.FITTING:
            if self.reached is not None:
                return self.reached
            if trainer.ckpt_path:
                return self._loaded
        return {"epoch": trainer.current_epoch, "step": trainer.global_step}


def json_figures(metrics: Mapping[str, Tensor]) -> dict[str, float | int | None]:
    """Figures of validation and test as JSON values, None where there is no number."""
    figures = {name: float(value) for name, value in metrics.items() if name.startswith(STAGES)}
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
