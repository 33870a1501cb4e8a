"""Times rows in turn, so that a change of the machine's pace meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.progress import track

from densekit.app.studies.benchmark.memory import peak_memory
from densekit.app.studies.benchmark.work import Row, Work

LONGEST_REASON = 200


@dataclass(frozen=True)
class Measured:
    """The measurements of a row; None is what could not be measured.

    Attributes:
        who: See `Row`.
        engine: See `Row`.
        precision: See `Row`.
        seconds: Median of the rounds.
        speedup: How many times faster than the first row of the work.
        memory: Peak memory of one step in bytes, see `peak_memory`.
        parameters: See `Cost`.
        flops: See `Cost`.
        share: Share of the machine's convolution peak in this precision that is reached.
        agreement: See `Row`.
        reason: Why the row was not timed; empty if it was.
    """

    who: str
    engine: str
    precision: str
    seconds: float | None = None
    speedup: float | None = None
    memory: int | None = None
    parameters: int | None = None
    flops: int | None = None
    share: float | None = None
    agreement: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """`densekit/eager/bf16`."""
        return "/".join(word for word in (self.who, self.engine, self.precision) if word)


@dataclass(frozen=True)
class _Ready:
    run: Callable[[], Any]
    memory: int | None
    agreement: float | None


def measure(
    work: Work, rounds: int, device: str, peaks: Mapping[str, float | None]
) -> list[Measured]:
    """Prepares every row, runs it once untimed and then once per round.

    Args:
        work: Its rows.
        rounds: Timed rounds.
        device: Where the rows run.
        peaks: FLOP per second of a convolution by precision, see `convolution_peak`.
    """
    ready: dict[int, _Ready] = {}
    reasons: dict[int, str] = {}
    for index, row in enumerate(track(work.rows, description="preparing")):
        try:
            ready[index] = _prepared(row, device)
        except Exception as error:  # every runtime raises classes of its own
            reasons[index] = _reason(error)
    runs = {str(index): one.run for index, one in ready.items()}
    median = {
        int(name): statistics.median(values)
        for name, values in interleaved(runs, rounds, device).items()
    }
    base = median.get(0)
    return [
        _timed(row, ready[i], median[i], base, peaks) if i in ready else _untimed(row, reasons[i])
        for i, row in enumerate(work.rows)
    ]


def interleaved(
    rows: Mapping[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Times every row once per round; returns seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in track(range(rounds), description="rounds"):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _prepared(row: Row, device: str) -> _Ready:
    run = row.make()
    if row.agreement is None and row.engine != "inductor":  # nothing is compiled or tried first
        return _Ready(run, peak_memory(run, device), None)
    output = run()
    agreement = None if row.agreement is None else row.agreement(output)
    del output
    return _Ready(run, peak_memory(run, device), agreement)


def _timed(
    row: Row,
    ready: _Ready,
    seconds: float,
    base: float | None,
    peaks: Mapping[str, float | None],
) -> Measured:
    peak = peaks.get(row.precision)
    return replace(
        _untimed(row),
        seconds=seconds,
        speedup=base / seconds if base else None,
        memory=ready.memory,
        share=row.cost.flops / seconds / peak if row.cost and peak else None,
        agreement=ready.agreement,
    )


def _untimed(row: Row, reason: str = "") -> Measured:
    found = Measured(row.who, row.engine, row.precision, reason=reason)
    if row.cost is None:
        return found
    return replace(found, parameters=row.cost.parameters, flops=row.cost.flops)


def _reason(error: Exception) -> str:
    """The first line of an error's message, shortened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0].strip()
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
