"""An experiment in Python is what a run of the same words does or begins with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from densekit import compose, train
from densekit.app.cli import main
from densekit.training import LitModel
from tests.unit.app.small_run import SMALL_RUN


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sources_and_model_fit_and_nothing_is_written(folder: Path) -> None:
    sources, model, config = compose(*SMALL_RUN)
    again = compose(*SMALL_RUN).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    batch = next(iter(sources["scenes"].train_loader()))
    assert set(model.loss(batch)) == {"classification/ce"}
    assert config["heads"]["classification"]["num_classes"] == len(
        sources["scenes"].describe()["names"]
    )
    assert not list(folder.iterdir())


def test_train_does_what_the_command_does_any_number_of_times(folder: Path) -> None:
    runs = [train(*SMALL_RUN), train(*SMALL_RUN)]
    assert main(["train", *SMALL_RUN]) == 0
    of_command = [*(folder / "runs" / "quickstart_classification").iterdir()]
    assert len(of_command) == 3
    assert {run.folder for run in runs} < set(of_command)
    files = [{file.name for file in run.iterdir()} for run in of_command]
    assert files[0] == files[1] == files[2]
    metrics = [run.read_bytes() for run in folder.rglob("metrics.json")]
    assert metrics[0] == metrics[1] == metrics[2]
    assert 0 <= runs[0].metrics["test/classification/accuracy"] <= 1
    assert runs[0].checkpoint.parent == runs[0].folder / "checkpoints"
    [result] = runs[0].predictor()(np.zeros((64, 64, 3), np.uint8))
    assert len(result["classification"]["labels"]) == 1


@pytest.mark.parametrize("function", [train, compose])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lrr=1"], r"optimizer\.lrr .*did you mean 'lr'"),
        (["-m", "seed=0,1"], "-m: expected key=value"),
        (["seed=0,1"], "seed: expected one value"),
        ([["seed=0"]], r"overrides: expected arguments like .* got \['seed=0'\]"),
    ],
)
def test_a_wrong_word_is_a_value_error(
    folder: Path, function: object, words: list[str], message: str
) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=message):
        function(*words)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_a_script_as_any_other(
    monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException]
) -> None:
    step = LitModel.training_step

    def sending(*arguments: object) -> object:
        os.kill(os.getpid(), number)
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LitModel, "training_step", sending)
    with pytest.raises(error):
        train(*SMALL_RUN)


@pytest.mark.slow
def test_two_processes_need_no_main_guard(folder: Path) -> None:
    words = [*SMALL_RUN, "trainer.devices=2"]
    script = folder / "script.py"
    script.write_text(f"import densekit\nprint(densekit.train(*{words!r}).metrics)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    assert b"test/classification/accuracy" in done.stdout
