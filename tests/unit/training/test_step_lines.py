"""Lines of a training whose output is a file; a bar where it is a terminal."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import rich
from rich.console import Console

from densekit.training import Progress, step_lines
from tests.unit.training.fakes import FakeData, FakeSource, fake_lit, trainer

BAR: dict[str, Any] = {"enable_progress_bar": True}

LINE = re.compile(
    r"epoch (\d+)  step (\d+)(?:/(\d+))?  loss [\d.e+-]+  lr [\d.e+-]+  [\d.e+-]+ s/step"
    r"(?:  ETA \d+:\d\d:\d\d)?  memory \d+\.\d GiB"
)


def lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, ...]]:
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return [m.groups() for line in out.splitlines() if (m := LINE.fullmatch(line))]


def test_a_line_every_so_many_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(step_lines.time, "monotonic", lambda: float(next(clock)))
    seconds = {"max_epochs": 2, "accumulate_grad_batches": 2, "limit_val_batches": 0}
    for every, expected in ((0, ["1", "2", "3", "4"]), (1e6, ["1"])):
        run = trainer(tmp_path, callbacks=[Progress("plain", every)], **BAR, **seconds)
        run.fit(fake_lit(), datamodule=FakeData())
        found = lines(capsys)
        assert [step for _, step, _ in found] == expected
        assert {last for *_, last in found} == {"4"}


def test_lines_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = FakeData({"a": FakeSource(), "b": FakeSource()})
    run = trainer(tmp_path, callbacks=[Progress("plain", 0)], **BAR)
    run.validate(fake_lit(), datamodule=data, verbose=False)
    total = sum(run.num_val_batches)
    out = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[2].partition("  ")[0] for line in out] == [
        f"batch {done}/{total}" for done in range(1, int(total) + 1)
    ]
    assert all(re.fullmatch(r"validation  batch .* s/batch  ETA 0:00:0\d", line) for line in out)


def test_no_progress_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trainer(tmp_path, callbacks=[Progress("none", 0)], max_epochs=1, **BAR)
    run.fit(fake_lit(), datamodule=FakeData())
    assert capsys.readouterr().out == ""


def test_unknown_style() -> None:
    with pytest.raises(ValueError, match=r"progress\.style: expected .* got 'plian'; did you mean"):
        Progress("plian")
    with pytest.raises(ValueError, match="every_n_seconds: expected at least 0, got -1"):
        Progress(every_n_seconds=-1)


def test_a_run_without_an_end_has_no_time_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"max_epochs": -1, "max_time": {"seconds": 1}, "limit_val_batches": 0}
    run = trainer(tmp_path, callbacks=[Progress("plain", 0)], **BAR, **settings)
    run.fit(fake_lit(), datamodule=FakeData())
    found = lines(capsys)
    assert found
    assert {last for *_, last in found} == {None}


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Progress().is_disabled
    monkeypatch.setattr(rich, "_console", Console(force_terminal=True, force_interactive=True))
    assert Progress().is_enabled
    assert Progress("plain").is_disabled


def test_the_bar_ends_where_max_steps_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rich, "_console", Console(force_terminal=True, force_interactive=True))
    run = trainer(tmp_path, callbacks=[bar := Progress()], max_epochs=2, max_steps=6, **BAR)
    totals = []
    update = bar.on_train_epoch_end
    monkeypatch.setattr(
        bar,
        "on_train_epoch_end",
        lambda *a: (totals.append(bar.train_progress_bar.total), update(*a)),
    )
    run.fit(fake_lit(), datamodule=FakeData())
    assert totals == [4, 2]
