"""Progress of a training: a bar in a terminal, a line every so many steps in a file."""

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
    """Lightning's bar where the output is a terminal; elsewhere lines that a log file can hold.

    A line says epoch, optimiser step, loss, learning rate, time a step, time to the end and the
    most memory that was used: of the GPU, or of the process where there is none.

    Args:
        every_n_steps: Distance of the lines; default `trainer.log_every_n_steps`.
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
        """Prints a line if it is time for one."""
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
        """Leaves the time of a validation out of that of the steps."""
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
            # With the validations so far: they will take their share of what is to come, too.
            overall = (now - self._begin[0]) / max(1, step - self._begin[1])
            parts.append(f"ETA {timedelta(seconds=round(overall * max(0, total - step)))}")
        return "  ".join([*parts, f"memory {used_memory(pl_module.device):.1f} GiB"])


def used_memory(device: torch.device) -> float:
    """The most memory so far in GiB, of a CUDA device or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
