"""Writes a trace of some training steps, and a table of the operators that take longest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile, record_function

from densekit._files import replacing, write_text
from densekit.ops import dist
from densekit.training.phase_actions import leave, listen

TRACE = "trace_{rank}.json.gz"
OPERATORS = "operators_{rank}.txt"
ROWS = 40
"""Operators in the table."""

_log = logging.getLogger(__name__)


class Profile(Callback):
    """Records some steps with `torch.profiler`, with the phases of `Phases` as marks.

    Each process writes `trace_0.json.gz`, which https://ui.perfetto.dev and chrome://tracing show,
    and `operators_0.txt`. The recorded steps are slower than others.

    Args:
        folder: Where the files go.
        active: Whether to record at all.
        after: Number of steps before, in which caches fill and kernels are chosen.
        steps: Number of steps that are recorded.

    Raises:
        ValueError: A number is too small.
    """

    def __init__(
        self, folder: str | Path, active: bool = True, after: int = 10, steps: int = 3
    ) -> None:
        for name, number, least in (("after", after, 0), ("steps", steps, 1)):
            if number < least:
                raise ValueError(
                    f"callbacks.profile.{name}: expected at least {least}, got {number}"
                )
        self.folder = Path(folder)
        self.active = active
        self.after = after
        self.steps = steps
        self._begin = 0
        self._profile: profile | None = None
        self._marks = _Marks()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts the steps from here on."""
        self._begin = trainer.global_step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begins to record."""
        due = trainer.global_step - self._begin >= self.after
        if self.active and due and self._profile is None:
            kinds = [ProfilerActivity.CPU]
            if pl_module.device.type == "cuda":
                kinds.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=kinds)
            self._profile.start()
            listen(trainer, self._marks)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the recording and writes the files."""
        if self._profile and trainer.global_step - self._begin >= self.after + self.steps:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what was recorded of a run that ends before."""
        if self._profile:
            self._write(trainer, pl_module)
        elif self.active:
            done = trainer.global_step - self._begin
            _log.warning(
                "profile: expected more than %d steps to begin with, got a run of %d; set"
                " callbacks.profile.after",
                *(self.after, done),
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Ends the recording."""
        if self._profile:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> profile:
        found, self._profile = self._profile, None
        assert found is not None
        self.active = False
        leave(trainer, self._marks)
        self._marks.close()
        found.stop()
        return found

    def _write(self, trainer: Trainer, lit: LightningModule) -> None:
        found = self._stop(trainer)
        rank = dist.rank()
        trace = self.folder / TRACE.format(rank=rank)
        with replacing(trace) as part:
            found.export_chrome_trace(str(part))
        by = "self_cuda_time_total" if lit.device.type == "cuda" else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=by, row_limit=ROWS)
        operators = self.folder / OPERATORS.format(rank=rank)
        write_text(operators, table)
        if rank == 0:
            _log.info(
                "profile: %s, to be opened in https://ui.perfetto.dev or chrome://tracing; the"
                " operators by time are in %s",
                *(trace, operators),
            )


class _Marks:
    """Shows the phases in the trace."""

    def __init__(self) -> None:
        self._open: list[tuple[str, record_function]] = []

    def begin(self, phase: str) -> None:
        mark = record_function(phase)
        mark.__enter__()
        self._open.append((phase, mark))

    def end(self, phase: str) -> None:
        if phase not in [name for name, _ in self._open]:
            return
        while self._open:
            name, mark = self._open.pop()
            mark.__exit__(None, None, None)
            if name == phase:
                return

    def close(self) -> None:
        while self._open:
            self._open.pop()[1].__exit__(None, None, None)
