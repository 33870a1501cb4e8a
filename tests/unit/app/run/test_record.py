"""What a run records of the command, the machine, the data and the state of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import densekit
from densekit.app.run.record import RECORD, git_state, read_record, record_start


def git(folder: Path, *words: str) -> None:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *named, *words], check=True, capture_output=True)


def test_state_of_a_work_tree(tmp_path: Path) -> None:
    git(tmp_path, "init", "-b", "trunk")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    state = git_state(tmp_path)
    assert state is not None
    assert len(state.pop("commit")) == 40
    assert state == {"branch": "trunk", "changed": False}
    (tmp_path / "a.py").write_text("2")
    assert git_state(tmp_path)["changed"] is True


def test_no_state_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/bin/densekit", "train", "data.x.root=a b"])
    record_start(tmp_path)
    found = read_record(tmp_path)
    assert found["command"] == "densekit train 'data.x.root=a b'"
    assert found["versions"]["densekit"] == densekit.__version__
    assert found["git"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 10_000])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) == {}
