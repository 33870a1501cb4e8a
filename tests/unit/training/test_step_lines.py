"""Lines of a training whose output is a file; a bar where it is a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rich
from rich.console import Console

from densekit.training import Progress
from tests.unit.training.fakes import FakeData, fake_lit, trainer

LINE = re.compile(
    r"epoch (\d+)  step (\d+)(?:/(\d+))?  loss [\d.e+-]+  lr [\d.e+-]+  [\d.e+-]+ s/step"
    r"(?:  ETA \d+:\d\d:\d\d)?  memory \d+\.\d GiB"
)


def lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, ...]]:
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return [m.groups() for line in out.splitlines() if (m := LINE.fullmatch(line))]


@pytest.mark.parametrize(
    ("settings", "every", "expected"),
    [
        ({"max_epochs": 2, "log_every_n_steps": 3}, None, ["1", "3", "6"]),
        ({"max_epochs": 2, "log_every_n_steps": 1}, 4, ["1", "4", "8"]),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 2, ["1", "2", "4"]),
    ],
)
def test_a_line_every_so_many_steps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, int],
    every: int | None,
    expected: list[str],
) -> None:
    bar = Progress(every)
    trainer(tmp_path, callbacks=[bar], enable_progress_bar=True, **settings).fit(
        fake_lit(), datamodule=FakeData()
    )
    found = lines(capsys)
    assert [step for _, step, _ in found] == expected
    total = str(8 // settings.get("accumulate_grad_batches", 1))
    assert {last for *_, last in found} == {total}


def test_a_run_without_an_end_has_no_time_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"max_epochs": -1, "max_time": {"seconds": 1}, "limit_val_batches": 0}
    run = trainer(tmp_path, callbacks=[Progress(1)], enable_progress_bar=True, **settings)
    run.fit(fake_lit(), datamodule=FakeData())
    found = lines(capsys)
    assert found
    assert {last for *_, last in found} == {None}


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Progress().is_disabled
    monkeypatch.setattr(rich, "_console", Console(force_terminal=True, force_interactive=True))
    assert Progress().is_enabled
