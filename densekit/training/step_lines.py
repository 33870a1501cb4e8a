"""Progress of a run: a bar in a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from torch import Tensor

from densekit._names import unknown

STYLES = ("auto", "bar", "plain", "none")


class Progress(RichProgressBar):
    """Shows how far a run is: by Lightning's progress bar, or by lines suited to a log file.

    A line of the training shows epoch, optimiser step, loss, learning rate, time per step,
    remaining time and the peak memory of the GPU, or of the process if there is none. A line of an
    evaluation shows its batches and the remaining time.

    Args:
        style: "bar"; "plain" for lines; "none"; "auto" is a bar in a terminal, otherwise lines.
        every_n_seconds: Interval of the lines; there is also one after the first step.

    Raises:
        ValueError: The style is unknown, or the interval negative.
    """

    def __init__(self, style: str = "auto", every_n_seconds: float = 10.0) -> None:
        super().__init__()
        if style not in STYLES:
            raise ValueError(unknown("callbacks.progress.style", style, STYLES))
        if every_n_seconds < 0:
            raise ValueError(
                f"callbacks.progress.every_n_seconds: expected at least 0, got {every_n_seconds}"
            )
        if style == "auto":
            style = "bar" if get_console().is_interactive else "plain"
        self.style = style
        self.every_n_seconds = every_n_seconds
        if style != "bar":
            self.disable()
        self._begin = self._mark = (0.0, 0)
        self._first = 0
        self._evaluation = _Evaluation("", ())

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the epoch that are trained on, fewer if `max_steps` ends it."""
        total = super().total_train_batches
        steps = self.trainer.max_steps
        if steps < 0:
            return total
        return min(total, max(0, steps - self._first) * self.trainer.accumulate_grad_batches)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        super().on_train_start(trainer, pl_module)
        self._begin = self._mark = (time.monotonic(), trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a bar."""
        self._first = trainer.global_step
        super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints a line if one is due."""
        if self.is_enabled:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            return
        step, (since, last) = trainer.global_step, self._mark
        begins = step == self._begin[1] + 1
        due = begins or time.monotonic() - since >= self.every_n_seconds
        if step > last and due and self._prints(trainer):
            print(self._line(trainer, pl_module, outputs["loss"]), flush=True)
            self._mark = (time.monotonic(), step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of a validation."""
        super().on_validation_start(trainer, pl_module)
        self._evaluation = _Evaluation("validation", trainer.num_val_batches)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of a test."""
        super().on_test_start(trainer, pl_module)
        self._evaluation = _Evaluation("test", trainer.num_test_batches)

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Prints a line if one is due."""
        super().on_validation_batch_end(trainer, *arguments, **named)
        self._show_evaluation(trainer)

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Prints a line if one is due."""
        super().on_test_batch_end(trainer, *arguments, **named)
        self._show_evaluation(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Excludes the time of validation from the time per step."""
        super().on_validation_end(trainer, pl_module)
        self._mark = (time.monotonic(), trainer.global_step)

    def _show_evaluation(self, trainer: Trainer) -> None:
        line = self._evaluation.line(self.every_n_seconds)
        if line and self._prints(trainer) and not trainer.sanity_checking:
            print(line, flush=True)

    def _prints(self, trainer: Trainer) -> bool:
        return self.style == "plain" and trainer.is_global_zero

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
            parts.append(f"ETA {_clock(overall * max(0, total - step))}")
        return "  ".join([*parts, f"memory {used_memory(pl_module.device):.1f} GiB"])


class _Evaluation:
    """Counts the batches of an evaluation.

    Args:
        name: What begins its lines.
        batches: Number of batches of each data set.
    """

    def __init__(self, name: str, batches: Sequence[int | float]) -> None:
        self._name = name
        self._total = sum(batches)
        self._done = 0
        self._begin = self._mark = time.monotonic()

    def line(self, every: float) -> str:
        """Counts a batch; a line every so many seconds, otherwise an empty text."""
        self._done += 1
        now = time.monotonic()
        if now - self._mark < every:
            return ""
        self._mark = now
        pace = (now - self._begin) / self._done
        left = _clock(pace * (self._total - self._done))
        return f"{self._name}  batch {self._done}/{self._total}  {pace:.3g} s/batch  ETA {left}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


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
