"""Runs that a signal ends: exit code, what they leave, what they say."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from densekit.app.cli import main
from densekit.training import LitModel
from tests.unit.app.small_run import SMALL_RUN


def sending(number: int, step: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The step of a module, which sends this process a signal the `at`-th time."""
    calls = []

    def send(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        return step(*arguments)

    return send


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "it's (here)"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_says_how_to_go_on(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LitModel, "training_step", sending(number, LitModel.training_step, 1))
        assert main(["train", *SMALL_RUN]) == code
    (run,) = (folder / "runs" / "quickstart_classification").iterdir()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run folder: {run}"
    (go_on,) = (line for line in lines if line.startswith("continue:"))
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1
    words = shlex.split(go_on)
    assert words[1:3] == ["densekit", "train"]
    assert main(words[2:]) == 0
    done = max((folder / "runs" / "quickstart_classification").iterdir())
    assert torch.load(done / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_a_stopped_test_is_no_finished_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SMALL_RUN, "data.scenes.eval_batch_size=4"]
    with monkeypatch.context() as patch:
        patch.setattr(LitModel, "test_step", sending(signal.SIGTERM, LitModel.test_step, 1))
        assert main(["train", *words]) == 143
    (run,) = (folder / "runs" / "quickstart_classification").iterdir()
    last = run / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(LitModel, "test_step", sending(signal.SIGTERM, LitModel.test_step, 1))
        assert main(["eval", f"checkpoint={last}"]) == 143
