"""Values that would start too much, divide by zero or write elsewhere: refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densekit.app.cli import main
from tests.unit.app.small_run import SMALL_RUN


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.devices=99", "trainer.devices: expected at most 4 processes here, got 99"),
        ("callbacks.checkpoint.every_n_epochs=0", "every_n_epochs: expected a number of at least"),
        ("callbacks.checkpoint.last_every_n_steps=0", "last_every_n_steps: expected a number of"),
        ("callbacks.checkpoint.last_every_n_steps=-3", "at least 1, got -3"),
        ("callbacks.checkpoint.every_minutes=0", "expected a positive number of minutes, got 0"),
        ("run_name=../../x", "run_name: expected the name of one folder, got ../../x"),
        ("run_name=..", "run_name: expected the name of one folder, got .."),
        ("run_name=/tmp/x", "run_name: expected the name of one folder, got /tmp/x"),
        ("run_name=a/b", "run_name: expected the name of one folder, got a/b"),
        (f"run_name={'x' * 300}", "run_name: expected the name of one folder, got xxx"),
    ],
)
def test_refused_before_anything_is_written(
    word: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert main(["train", *SMALL_RUN, word]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_has_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", *SMALL_RUN, "run_name=../x", f"paths.runs={tmp_path / 'runs'}", "seed=1,2"]
    assert main(["train", *words]) == 2
    assert "run_name: expected the name of one folder, got ../x" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
