from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from densekit.app.studies.benchmark.machine import this_machine
from densekit.app.studies.benchmark.memory import peak_memory
from densekit.app.studies.benchmark.timing import interleaved, measure
from densekit.app.studies.benchmark.work import Cost, Row, Work


def test_rows_take_turns() -> None:
    order: list[str] = []
    rows = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = interleaved(rows, 2, "cpu")
    assert order == ["a", "b", "a", "b"]
    assert [len(values) for values in seconds.values()] == [2, 2]


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
