"""A resumed run has a folder of its own, in which curves and logs begin where the run began."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from densekit.app.cli import main
from densekit.app.run.earlier_logs import continue_logs, logged_rows

TINY = [
    *("experiment=quickstart_classification", "backbone.width=8", "trainer.accelerator=cpu"),
    *("data.scenes.train.length=16", "data.scenes.val.length=4", "data.scenes.test.length=4"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val", "test")),
    *("data.scenes.batch_size=8", "data.scenes.eval_batch_size=4", "precision=32-true"),
    *("callbacks.pictures=null", "callbacks.progress=null", "callbacks.confusion=null"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("trainer.log_every_n_steps=1", "test=false"),
]


def only(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_curves_and_events_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "trainer.max_epochs=2", "run_name=first"]) == 0
    first = only(tmp_path / "runs" / "first")
    assert main(["train", f"resume={first}", "trainer.max_epochs=3", "run_name=second"]) == 0
    second = only(tmp_path / "runs" / "second")
    trained = [int(row["step"]) for row in rows(second) if row["train/loss"]]
    assert trained == [0, 1, 2, 3, 4, 5]
    measured = [row for row in rows(second) if row["val/classification/accuracy"]]
    assert len(measured) == 3
    before = [row for row in rows(first) if row["val/classification/accuracy"]]
    for old, new in zip(before, measured, strict=False):
        assert old.items() <= new.items()
    last = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    series = last["callbacks"]["Curves"]["series"]
    assert [step for step, _ in series["val/classification/accuracy"]] == [2, 4, 6]
    assert len(list((second / "tensorboard").glob("events*"))) == 2


@pytest.mark.parametrize("limit", ["max_epochs", "max_steps"])
def test_a_run_with_nothing_left_to_train_says_how_to_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, f"trainer.{limit}=1", "run_name=first"]) == 0
    words = [f"resume={only(tmp_path / 'runs' / 'first')}", "run_name=second", "test=true"]
    capsys.readouterr()
    assert main(["train", *words]) == 0
    second = only(tmp_path / "runs" / "second")
    shown = capsys.readouterr()
    assert f"resume={second} trainer.{limit}=MORE" in shown.out
    assert "treespec" not in shown.err
    assert main(["eval", f"checkpoint={second}"]) == 0
    shown = capsys.readouterr()
    assert "test_batches=1.0" not in shown.err + shown.out
    assert "treespec" not in shown.err + shown.out


def test_incomplete_rows_have_no_empty_cells(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss,val/loss\n0,0,2.0,\n0,1,,3.0\n1,2\n")
    assert logged_rows(file) == [
        {"epoch": "0", "step": "0", "train/loss": "2.0"},
        {"epoch": "0", "step": "1", "val/loss": "3.0"},
        {"epoch": "1", "step": "2"},
    ]
    assert logged_rows(tmp_path / "gone.csv") == []


def test_logs_that_cannot_be_read_stop_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "csv").mkdir(parents=True)
    (old / "csv" / "metrics.csv").write_bytes(b"step,a\n0,\xff\n")
    logger = CSVLogger(new, name="csv", version="")
    with caplog.at_level(logging.WARNING, "densekit"):
        continue_logs([logger], new, old / "checkpoints" / "last.ckpt", 5, 1)
    assert "expected the logs of the earlier run" in caplog.text
    assert logger.experiment.metrics == []
