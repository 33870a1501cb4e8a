"""A run that torchrun or SLURM starts again goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from densekit.app.run import attempts
from densekit.app.run.attempts import agree_on_attempt, forget_attempts
from tests.unit.app.run.test_launch import OUTSIDE

CONFIG = "backbone: {}\nheads: {}\n"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OUTSIDE, "TORCHELASTIC_MAX_RESTARTS", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def call(make: Callable[[], str]) -> str:
    return make()


def torchrun(monkeypatch: pytest.MonkeyPatch, name: str, restarts: str = "3") -> None:
    values = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    values |= {"TORCHELASTIC_RUN_ID": name, "TORCHELASTIC_MAX_RESTARTS": restarts}
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(attempts, "_shared", call)


def save(run: Path) -> Path:
    file = run / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    content = {"state_dict": {}, "config": CONFIG, "info": {}, "global_step": 3, "epoch": 0}
    torch.save(content, file)
    return file


def test_a_restart_goes_on_from_the_latest_attempt_that_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun(monkeypatch, "job 7/a")
    first = agree_on_attempt(tmp_path)
    assert first.resume is None
    saved = save(first.run)
    second = agree_on_attempt(tmp_path)  # killed before it saves
    third = agree_on_attempt(tmp_path)
    assert second.resume == third.resume == saved
    assert len({first.run, second.run, third.run}) == 3
    forget_attempts(tmp_path)
    assert agree_on_attempt(tmp_path).resume is None


@pytest.mark.parametrize(("name", "restarts"), [("none", "3"), ("job7", "0")])
def test_a_run_that_is_not_started_again_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, restarts: str
) -> None:
    torchrun(monkeypatch, name, restarts)
    save(agree_on_attempt(tmp_path).run)
    assert agree_on_attempt(tmp_path).resume is None


def test_a_damaged_checkpoint_is_no_place_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torchrun(monkeypatch, "job7")
    save(agree_on_attempt(tmp_path).run).write_bytes(b"half")
    assert agree_on_attempt(tmp_path).resume is None
    assert "expected a readable checkpoint" in caplog.text


def test_a_requeued_job_of_slurm_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"STEP_NUM_TASKS": "4", "JOB_ID": "77", "STEP_ID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    saved = save(agree_on_attempt(tmp_path).run)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    run, resume = agree_on_attempt(tmp_path)
    assert (run.name, resume) == ("slurm_77_0_2", saved)
