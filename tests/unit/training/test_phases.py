"""Where the time of a training goes: phases, their clocks, and the advice for a slow loader."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from densekit.training import Phases, phase_clock, phases
from densekit.training.phase_actions import ACTIONS, PHASES, PhaseActions, leave, listen
from densekit.training.phase_clock import Clock, CudaClock
from tests.unit.training.fakes import FakeData, fake_lit, trainer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that ticks once each time it is looked at."""
    now = iter(range(100))
    monkeypatch.setattr(phase_clock.time, "perf_counter", lambda: float(next(now)))
    return Clock()


def test_time_belongs_to_the_innermost_phase(clock: Clock) -> None:
    clock.begin("loading")  # 1 s of other before
    clock.end("loading")
    clock.begin("optimizer")
    clock.begin("forward")
    clock.begin("backward")
    clock.end("forward")  # an error has left the backward pass
    clock.end("optimizer")
    clock.stop()
    taken = {phase: seconds for phase, seconds in clock.seconds.items() if seconds}
    assert taken == {"loading": 1, "optimizer": 2, "forward": 1, "backward": 1, "other": 3}


def test_what_an_evaluation_does_belongs_to_it(clock: Clock) -> None:
    clock.begin("evaluation")
    clock.begin("transfer")
    clock.end("transfer")
    clock.begin("saving")
    clock.end("saving")
    clock.end("evaluation")
    clock.end("evaluation")
    assert {phase: s for phase, s in clock.seconds.items() if s} == {
        "evaluation": 2, "saving": 1, "other": 1,
    }  # fmt: skip


class FakeEvent:
    """An event of a GPU that reaches it two events later, at ten times its number in ms."""

    made: list[FakeEvent] = []

    def __init__(self, enable_timing: bool) -> None:
        self.number = len(self.made)
        self.made.append(self)

    def record(self, stream: Any) -> None:
        pass

    def query(self) -> bool:
        return self.number < len(self.made) - 2

    def synchronize(self) -> None:
        self.made += [self, self]

    def elapsed_time(self, other: FakeEvent) -> float:
        assert self.query()
        assert other.query()
        return 10.0 * (other.number - self.number)


def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEvent, "made", [])
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    clock = CudaClock(torch.device("cuda"))
    clock.begin("forward")
    clock.begin("backward")
    assert sum(clock.seconds.values()) == 0
    clock.end("forward")
    assert clock.seconds["other"] == pytest.approx(0.01)
    clock.stop()
    taken = {phase: seconds for phase, seconds in clock.seconds.items() if seconds}
    assert taken == pytest.approx({"other": 0.02, "forward": 0.01, "backward": 0.01})


def test_every_phase_of_a_run_is_seen_once_a_step(tmp_path: Path) -> None:
    class Count:
        def __init__(self) -> None:
            self.begun = dict.fromkeys(PHASES, 0)
            self.ended = dict.fromkeys(PHASES, 0)

        def begin(self, phase: str) -> None:
            self.begun[phase] += 1

        def end(self, phase: str) -> None:
            self.ended[phase] += 1

    run, count = trainer(tmp_path, max_epochs=1, enable_checkpointing=True), Count()
    profiler = run.profiler
    listen(run, count)
    run.fit(fake_lit(), datamodule=FakeData())
    assert isinstance(run.profiler, PhaseActions)
    leave(run, count)
    assert run.profiler is profiler
    batches = run.num_val_batches[0]
    once = {"loading": 4, "transfer": 4 + batches, "optimizer": 4, "forward": 4, "backward": 4}
    assert count.begun == count.ended == once | {"evaluation": 1, "saving": 1}
    assert set(ACTIONS) == set(PHASES)


def test_seconds_of_each_epoch_are_logged_and_their_shares_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "densekit")
    slow = FakeData()

    def slowly(items: Any) -> Any:
        time.sleep(0.03)
        return collate(items)

    loaders = slow.train_dataloader()
    collate = loaders["toy"].collate_fn
    monkeypatch.setattr(slow, "train_dataloader", lambda: loaders)
    loaders["toy"].collate_fn = slowly
    monkeypatch.setattr(phases.os, "sched_getaffinity", lambda _: range(4), raising=False)
    log = CSVLogger(tmp_path, "csv", version="")
    run = trainer(tmp_path, callbacks=[Phases()], logger=log, max_epochs=2)
    run.fit(fake_lit(), datamodule=slow)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        times = [float(row["time/loading"]) for row in csv.DictReader(file) if row["time/loading"]]
    assert len(times) == 2
    assert all(0.12 <= seconds < 2 for seconds in times)
    (told,) = [line for line in caplog.messages if line.startswith("time: loading ")]
    assert "backward" in told
    (warned,) = [line for line in caplog.messages if "waiting for the loader" in line]
    assert "try data.toy.num_workers=3 (now 0)" in warned


def test_cures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases.os, "sched_getaffinity", lambda _: range(4), raising=False)
    source = SimpleNamespace(train=SimpleNamespace(cache=None))
    monkeypatch.setattr(phases, "sources_of", lambda _: {"scans": source})
    loaders = {"scans": SimpleNamespace(num_workers=3)}
    run: Any = SimpleNamespace(train_dataloader=loaders, num_devices=1)
    assert phases.cure(run) == "try data.scans.train.cache=FOLDER"
    source.train.cache = "somewhere"
    assert "already have the 4 cores" in phases.cure(run)


def test_evaluation_does_not_count_as_time_of_the_steps() -> None:
    seconds = dict.fromkeys((*PHASES, "other"), 0.0)
    assert phases.waiting(seconds) == 0
    assert phases.waiting(seconds | {"loading": 1, "forward": 3, "evaluation": 6}) == 0.25
