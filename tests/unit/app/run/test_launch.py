"""Who starts the processes, how many they are, and where they write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from densekit.app.errors import UsageError
from densekit.app.run import launch
from densekit.app.run.attempts import agree_on_folder
from densekit.app.run.folder import new_folder

OUTSIDE = (
    *("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"),
    *("SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_NTASKS_PER_NODE"),
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(1, 1), (2, 2), ("2", 2), ([0, 3], 2), ("0,3", 2), ("1,", 1), ("auto", 1), (-1, 1)],
)
def test_devices_as_lightning_takes_them(devices: Any, expected: int) -> None:
    assert launch.count_devices({"devices": devices, "accelerator": "cpu"}) == expected


def test_weights_are_not_divided_over_one_process() -> None:
    with pytest.raises(UsageError, match="trainer.strategy: expected auto with one process"):
        launch.check({"strategy": "fsdp", "devices": 1})
    launch.check({"strategy": "fsdp", "devices": 2, "accelerator": "cpu"})


def test_one_process_is_the_main_one() -> None:
    assert not launch.started_outside()
    assert launch.is_main()


def test_torchrun_decides_devices_and_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert launch.started_outside()
    assert not launch.is_main()
    trainer = {"devices": 1, "strategy": "auto"}
    launch.adopt_world(trainer)
    assert trainer == {"devices": 4, "num_nodes": 2, "strategy": "ddp"}


def test_srun_decides_devices_and_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slurm = {"STEP_NUM_TASKS": "4", "STEP_NUM_NODES": "2", "PROCID": "1", "JOB_ID": "77"}
    for name, value in (slurm | {"STEP_ID": "0"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    trainer: dict[str, Any] = {}
    launch.adopt_world(trainer)
    assert trainer == {"devices": 2, "num_nodes": 2, "strategy": "ddp"}
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "2"
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    assert not launch.is_main()
    assert agree_on_folder(tmp_path) == agree_on_folder(tmp_path)
    assert agree_on_folder(tmp_path).name == "slurm_77_0"


def test_a_batch_script_is_no_step_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert not launch.started_outside()


def test_unknown_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        agree_on_folder(tmp_path)


def test_several_nodes_need_a_launcher() -> None:
    with pytest.raises(UsageError, match="trainer.num_nodes"):
        launch.check({"num_nodes": 2})


@pytest.mark.parametrize(("job", "devices"), [("train", 1), ("mine", "auto"), ("x", [0])])
def test_tasks_without_srun_are_refused(
    monkeypatch: pytest.MonkeyPatch, job: str, devices: Any
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", job)
    with pytest.raises(UsageError, match="SLURM_NTASKS: expected 1 .*got 2; write `srun densekit"):
        launch.check({"devices": devices, "accelerator": "cpu"})
    launch.check({"devices": 2, "accelerator": "cpu"})  # densekit starts them itself
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    launch.check({"devices": devices, "accelerator": "cpu"})


def test_strategy_is_filled_in_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Path, int]] = []
    monkeypatch.setattr(launch, "_launch", lambda file, count: started.append((file, count)))
    trainer = {"devices": 2, "accelerator": "cpu", "strategy": "auto"}
    launch.start({"trainer": trainer, "paths": {"run": str(tmp_path / "run")}})
    assert started == [(tmp_path / "run" / "config.yaml", 2)]
    assert "strategy: ddp" in started[0][0].read_text()


def test_folders_of_one_second_do_not_collide(tmp_path: Path) -> None:
    folders = {new_folder(tmp_path / "runs") for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.is_dir() and folder.is_absolute() for folder in folders)
