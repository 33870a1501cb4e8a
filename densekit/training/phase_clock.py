"""Clocks that add up the time of phases, of the host or of a GPU."""

from __future__ import annotations

import time
from collections import deque

import torch

from densekit.training.phase_actions import PHASES

OTHER = "other"


class Clock:
    """Adds up the seconds of each phase; time within several belongs to the innermost.

    Attributes:
        seconds: Phase, or `other`, to its time so far.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*PHASES, OTHER), 0.0)
        self._open: list[str] = []
        self._since = time.perf_counter()

    def begin(self, phase: str) -> None:
        """Begins a phase."""
        if not self._is_part_of_evaluation(phase):
            self._change([*self._open, phase])

    def end(self, phase: str) -> None:
        """Ends a phase, and those within it that an error has left open."""
        if phase in self._open and not self._is_part_of_evaluation(phase):
            self._change(self._open[: len(self._open) - 1 - self._open[::-1].index(phase)])

    def stop(self) -> None:
        """Completes `seconds`."""
        self._change([])

    def _is_part_of_evaluation(self, phase: str) -> bool:
        return "evaluation" in self._open and phase not in ("evaluation", "saving")

    def _change(self, phases: list[str]) -> None:
        self._add(self._open[-1] if self._open else OTHER)
        self._open = phases

    def _add(self, phase: str) -> None:
        """Adds the time since the last call to a phase."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._since
        self._since = now


class CudaClock(Clock):
    """The same on the time line of a GPU, without waiting for it: it lags behind until `stop`.

    The GPU works on a step while the host prepares the next one. Here loading is the time in which
    the GPU has nothing to do, because the host waits for a batch.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._stream = torch.cuda.current_stream(device)
        self._marks: deque[tuple[str, torch.cuda.Event]] = deque()
        self._last = self._record()

    def stop(self) -> None:
        """Waits for the GPU and completes `seconds`."""
        super().stop()
        self._marks[-1][1].synchronize()
        self._drain()

    def _add(self, phase: str) -> None:
        self._marks.append((phase, self._record()))
        self._drain()

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def _drain(self) -> None:
        """Adds the time up to the marks that the GPU has reached."""
        while self._marks and self._marks[0][1].query():
            phase, event = self._marks.popleft()
            self.seconds[phase] += self._last.elapsed_time(event) / 1000
            self._last = event


def clock_for(device: torch.device) -> Clock:
    """Returns the clock of a device."""
    return CudaClock(device) if device.type == "cuda" else Clock()
