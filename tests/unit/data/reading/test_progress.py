"""Progress of loops that take long."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import rich
from rich.console import Console

from densekit.data.reading import progress
from densekit.data.reading.progress import tracked


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes the clock advance by so many seconds each time it is looked at."""

    def set_tick(seconds: float) -> None:
        clock = itertools.count(0.0, seconds)
        monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))

    return set_tick


def test_lines_where_there_is_no_terminal(
    tick: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    tick(5.0)
    assert list(tracked(range(6), "predicting")) == list(range(6))
    assert capsys.readouterr().err.splitlines() == [
        "predicting  1/6  ETA 0:00:50",
        "predicting  3/6  ETA 0:00:20",
        "predicting  5/6  ETA 0:00:06",
    ]
    tick(0.1)
    assert list(tracked(range(6), "predicting")) == list(range(6))
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_terminal(
    tick: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rich, "_console", Console(force_terminal=True, force_interactive=True))
    tick(2.0)
    assert list(tracked(range(6), "predicting")) == list(range(6))
    assert "6/6  ETA" not in capsys.readouterr().err
