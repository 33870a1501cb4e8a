"""Times rows in turn, so that a change of the machine's pace meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from rich.progress import track

from densekit._malloc import kept_memory
from densekit.app.studies.benchmark.memory import peak_memory
from densekit.app.studies.benchmark.work import OURS, Row, Work

LONGEST_REASON = 200
Key = TypeVar("Key")


@dataclass(frozen=True)
class Measured:
    """The measurements of a row; None is what could not be measured.

    Attributes:
        who: See `Row`.
        engine: See `Row`.
        precision: See `Row`.
        seconds: Median of the rounds.
        speedup: How many times faster than the first row of the work.
        memory: Peak memory of the row in bytes, see `peak_memory`.
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
    """Prepares every row, runs it untimed and then once per round; see `Row.trains`.

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
    turns = {
        index: partial(_turn, work.rows[index], one.run, device) for index, one in ready.items()
    }
    median = {i: statistics.median(found) for i, found in interleaved(turns, rounds).items()}
    base = median.get(0)
    return [
        _timed(row, ready[i], median[i], base, peaks) if i in ready else _untimed(row, reasons[i])
        for i, row in enumerate(work.rows)
    ]


def interleaved(turns: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, list[float]]:
    """Gives every row its turn once per round, which returns seconds; returns them by row."""
    seconds: dict[Key, list[float]] = {key: [] for key in turns}
    for _ in track(range(rounds), description="rounds"):
        for key, turn in turns.items():
            seconds[key].append(turn())
    return seconds


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Times one call."""
    start = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _turn(row: Row, run: Callable[[], object], device: str) -> float:
    with _memory_of(row, device):
        if row.trains:
            run()  # the row before has left other memory behind than a step of this one
        return seconds_of(run, device)


def _memory_of(row: Row, device: str) -> AbstractContextManager[None]:
    """What a row runs in: our training keeps freed memory, all else has glibc's defaults."""
    return kept_memory(device) if row.trains and row.who == OURS else nullcontext()


def _prepared(row: Row, device: str) -> _Ready:
    run = row.make()
    agreement = None
    if row.agreement is not None or row.engine == "inductor":  # something is compiled or tried
        output = run()
        agreement = None if row.agreement is None else row.agreement(output)
        del output
    with _memory_of(row, device):
        return _Ready(run, peak_memory(run, device, steps=2 if row.trains else 1), agreement)


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
