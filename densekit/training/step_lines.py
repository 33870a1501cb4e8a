"""Training progress: a bar in a terminal, otherwise a line every n steps."""

from __future__ import annotations

import math
import sys
import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from torch import Tensor


class Progress(RichProgressBar):
    """Lightning's progress bar in a terminal; elsewhere lines suited to a log file.

    A line shows epoch, optimiser step, loss, learning rate, time per step, remaining time and the
    peak memory of the GPU, or of the process if there is none.

    Args:
        every_n_steps: Interval of the lines, `trainer.log_every_n_steps` by default.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        if not get_console().is_interactive:
            self.disable()
        self._begin = self._mark = (0.0, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        super().on_train_start(trainer, pl_module)
        self._begin = self._mark = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints a line if one is due."""
        if self.is_enabled:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            return
        step = trainer.global_step
        every = self.every_n_steps or int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
        due = step == self._begin[1] + 1 or (every > 0 and step % every == 0)
        if due and step > self._mark[1] and trainer.is_global_zero:
            print(self._line(trainer, pl_module, outputs["loss"]), flush=True)
            self._mark = (time.monotonic(), step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Excludes the time of validation from the time per step."""
        super().on_validation_end(trainer, pl_module)
        self._mark = (time.monotonic(), trainer.global_step)

    def _line(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> str:
        step, now, total = trainer.global_step, time.monotonic(), trainer.estimated_stepping_batches
        pace = (now - self._mark[0]) / max(1, step - self._mark[1])
        parts = [
            f"epoch {trainer.current_epoch}",
            f"step {step}" + ("" if math.isinf(total) else f"/{int(total)}"),
            f"loss {float(loss) * trainer.accumulate_grad_batches:.4g}",
            f"lr {trainer.optimizers[0].param_groups[0]['lr']:.3g}",
            f"{pace:.3g} s/step",
        ]
        if not math.isinf(total):
            # Includes the validations so far, as the remaining time will include others.
            overall = (now - self._begin[0]) / max(1, step - self._begin[1])
            parts.append(f"ETA {timedelta(seconds=round(overall * max(0, total - step)))}")
        return "  ".join([*parts, f"memory {used_memory(pl_module.device):.1f} GiB"])


def used_memory(device: torch.device) -> float:
    """Peak memory so far in GiB, of a CUDA device or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
