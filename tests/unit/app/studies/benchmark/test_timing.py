from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from densekit.app.studies.benchmark import timing
from densekit.app.studies.benchmark.machine import this_machine
from densekit.app.studies.benchmark.memory import peak_memory
from densekit.app.studies.benchmark.timing import interleaved, measure
from densekit.app.studies.benchmark.work import OURS, Cost, Row, Work


def test_rows_take_turns() -> None:
    order: list[str] = []
    turns = {name: (lambda name=name: order.append(name) or 1.0) for name in "ab"}
    seconds = interleaved(turns, 2)
    assert order == ["a", "b", "a", "b"]
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_our_training_alone_keeps_memory_and_every_step_follows_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    @contextmanager
    def kept(device: str) -> Iterator[None]:
        order.append("kept")
        yield
        order.append("returned")

    def row(who: str, *, trains: bool) -> Row:
        return Row(who, "eager", "fp32", lambda: lambda: order.append(who), trains=trains)

    monkeypatch.setattr(timing, "kept_memory", kept)
    monkeypatch.setattr(timing, "peak_memory", lambda run, device, steps: None)
    rows = [row("peer", trains=True), row(OURS, trains=True), row(OURS, trains=False)]
    measure(Work("title", "proof", rows), 1, "cpu", {})
    assert order == ["kept", "returned", "peer", "peer", "kept", OURS, OURS, "returned", OURS]


def nothing() -> Callable[[], object]:
    return lambda: None


def broken() -> Callable[[], object]:
    raise OSError("no such\nkernel")


def test_a_row_that_breaks_leaves_the_others() -> None:
    rows = [
        Row("peer", "eager", "fp32", nothing, Cost(10, 1000)),
        Row("densekit", "eager", "fp32", broken),
        Row("densekit", "inductor", "fp32", nothing, agreement=lambda _: 0.5),
        Row("densekit", "inductor", "bf16", nothing, agreement=lambda _: 0.5),
    ]
    found = measure(Work("title", "proof", rows), 1, "cpu", {"fp32": 1e9, "bf16": None})
    assert found[0].speedup == 1.0
    assert found[0].share is not None
    assert (found[1].seconds, found[1].reason) == (None, "no such")
    assert (found[2].agreement, found[2].reason) == (0.5, "")
    assert (found[3].agreement, found[3].share, found[3].reason) == (0.5, None, "")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux alone")
def test_peak_memory_is_that_of_one_call() -> None:
    torch.ones(64, 2**20)  # freed before the call
    found = peak_memory(lambda: torch.ones(32, 2**20).sum(), "cpu")
    assert found is not None
    assert 100 * 2**20 < found < 200 * 2**20


def test_peaks_of_this_machine() -> None:
    machine = this_machine(["fp32"], "cpu")
    assert machine.peaks["fp32"] is not None
    assert machine.peaks["fp32"] > 1e9
    assert "GFLOP/s" in str(machine)
    assert "GFLOP/s" not in str(this_machine([], "cpu"))
