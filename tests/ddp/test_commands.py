"""Two processes: densekit's own launcher, torchrun, and the figures of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback

from densekit.app.cli import main
from tests.unit.app.small_run import SMALL_RUN

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

TINY = [
    *("experiment=quickstart", "seed=3", "precision=32-true", "trainer.accelerator=cpu"),
    *("data.scenes.train.length=8", "data.scenes.val.length=2", "data.scenes.test.length=5"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val", "test")),
    *("data.scenes.batch_size=2", "data.scenes.eval_batch_size=2", "neck.out_channels=32"),
    *("trainer.enable_model_summary=false", "trainer.max_steps=2"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training in two processes that densekit started itself."""
    folder = tmp_path_factory.mktemp("two processes (1)")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *TINY, "trainer.devices=2"]) == 0
    (run,) = (folder / "runs" / "quickstart").iterdir()  # one folder for both
    return run


def test_two_processes_train_into_one_folder(run: Path) -> None:
    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert (trainer["devices"], trainer["strategy"]) == (2, "ddp")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert "test/detection/AP50" in json.loads((run / "metrics.json").read_text())
    assert (run / "predictions.png").is_file()


def test_eval_in_two_processes_equals_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["eval", f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", "trainer.accelerator=cpu"]
    assert main([*words, "output=one"]) == 0
    assert main([*words, "output=two", "trainer.devices=2", "trainer.strategy=ddp"]) == 0
    one, two = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    metrics = [name for name in one if "/AP" in name or "/AR" in name]
    assert len(metrics) > 12
    assert {name: one[name] for name in metrics} == {name: two[name] for name in metrics}


def test_divided_weights_are_evaluated_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["trainer.devices=2", "trainer.strategy=fsdp", "callbacks=[default,ema]"]
    assert main(["train", *TINY, *words, "run_name=divided"]) == 0
    (run,) = (tmp_path / "runs" / "divided").iterdir()
    assert (run / "predictions.png").is_file()
    own = json.loads((run / "metrics.json").read_text())
    cpu = "trainer.accelerator=cpu"
    assert main(["eval", f"checkpoint={run / 'checkpoints'}", cpu, "output=one"]) == 0
    one = json.loads((tmp_path / "one" / "metrics.json").read_text())
    metrics = {name: value for name, value in one.items() if "/AP" in name or "/AR" in name}
    assert len(metrics) > 12
    assert metrics == {name: own[name] for name in metrics}


def test_torchrun_agrees_on_one_folder(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*program, "-m", "densekit", "train", *TINY, "test=false", "run_name=torchrun"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=280)
    (run,) = (tmp_path / "runs" / "torchrun").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["devices"] == 2
    assert (run / "checkpoints" / "last.ckpt").is_file()


class FailingRank(Callback):
    """Fails in the second process while the first one waits for its gradients."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_rank == 1:
            Path("failed").touch()
            raise RuntimeError("the second process has failed on purpose")


def test_a_failing_process_ends_the_others_with_its_own_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    fails = "+callbacks.fails._target_=tests.ddp.test_commands.FailingRank"
    assert main(["train", *TINY, "trainer.devices=2", fails, "trust=[tests]"]) == 2
    assert time.time() - (tmp_path / "failed").stat().st_mtime < 60
    said = capfd.readouterr().err
    assert "RuntimeError: the second process has failed on purpose" in said
    assert "test_commands.py" in said  # its traceback
    assert "got 1 of worker 1 of 2; its message is above" in said
    assert workers_of(tmp_path) == []


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Two processes with loader workers in the middle of an epoch, in a group of their own."""
    words = [*SMALL_RUN, "data.scenes.train.length=16000", "data.scenes.num_workers=1"]
    words += ["trainer.devices=2", f"paths.runs={tmp_path / 'runs'}"]
    words += ["callbacks.checkpoint.last_every_n_steps=1"]
    program = [sys.executable, "-m", "densekit", "train", *words]
    process = subprocess.Popen(program, cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def workers_of(folder: Path) -> list[str]:
    """Command lines of the workers that write into a folder."""
    found = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    return [line for line in lines if "densekit.app.worker" in line and str(folder) in line]


def test_a_signal_to_all_processes_saves(training: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.killpg(training.pid, signal.SIGTERM)
    assert training.wait(60) == 143
    assert workers_of(tmp_path) == []
    (last,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] > 0


def test_a_killed_launcher_leaves_no_worker(
    training: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert len(workers_of(tmp_path)) >= 2
    training.kill()
    training.wait(10)
    deadline = time.monotonic() + 60
    while workers_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert workers_of(tmp_path) == []
