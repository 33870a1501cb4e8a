"""Which checkpoint is best: metrics without a value, several validations, resumed runs."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.training import Checkpoint, EarlyStopping
from tests.unit.training.fakes import FakeData, fake_lit, trainer


class Score(Callback):
    """Logs one given value a validation; it is no state of the run."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = iter(values)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.log("val/score", next(self.values))


def fit(
    folder: Path, scores: Sequence[float], start: Path | None = None, **settings: Any
) -> Checkpoint:
    keep = {key: settings.pop(key) for key in ("mode", "keep", "monitor") if key in settings}
    saver = Checkpoint(folder, **{"monitor": "val/score"} | keep)
    run = trainer(folder, callbacks=[Score(scores), saver], **settings)
    run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=start, weights_only=True)
    return saver


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.ckpt"))


def step(file: str | Path) -> int:
    return int(torch.load(file, weights_only=True)["global_step"])


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([nan, 0.2, nan], 1),
        ([0.2, nan, nan], 0),
        ([nan, nan, 0.2], 2),
        ([inf, 0.2, -inf], 1),
        ([nan, nan, nan], 2),  # the newest
    ],
)
def test_what_is_no_number_is_never_the_best(
    tmp_path: Path, scores: list[float], best: int, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "densekit"):
        saver = fit(tmp_path, scores, mode=mode, max_epochs=3)
    assert names(tmp_path) == [f"epoch_{best:03d}.ckpt", "last.ckpt"]
    assert Path(saver.best_model_path).name == f"epoch_{best:03d}.ckpt"
    said = "expected a finite val/score" in caplog.text
    assert said is (0.2 not in scores)


@pytest.mark.parametrize("keep", [2, -1])
def test_of_several_kept_without_a_number_the_newest_is_the_best(tmp_path: Path, keep: int) -> None:
    saver = fit(tmp_path, [nan, nan, nan], keep=keep, max_epochs=3)
    assert Path(saver.best_model_path).name == "epoch_002.ckpt"
    later = fit(tmp_path, [0.1], tmp_path / "last.ckpt", keep=keep, max_epochs=4)
    assert Path(later.best_model_path).name == "epoch_003.ckpt"


@pytest.mark.parametrize(
    "settings",
    [
        {"val_check_interval": 0.5},
        {"val_check_interval": 2},
        {"val_check_interval": 2, "check_val_every_n_epoch": None},
    ],
)
def test_validations_of_one_epoch_have_a_file_each(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    saver = fit(tmp_path, [0.9, 0.1, 0.8, 0.2], max_epochs=2, keep=2, **settings)
    assert names(tmp_path) == [
        "epoch_000_step_000002.ckpt",
        "epoch_001_step_000006.ckpt",
        "last.ckpt",
    ]
    assert Path(saver.best_model_path).name == "epoch_000_step_000002.ckpt"
    assert step(saver.best_model_path) == 2
    assert step(tmp_path / "epoch_001_step_000006.ckpt") == 6


def test_a_run_that_time_ends_within_an_epoch_is_named_by_the_epoch(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 6

    saver = Checkpoint(tmp_path, "val/score")
    run = trainer(tmp_path, callbacks=[Score([0.1, 0.2]), saver, Stop()], max_epochs=3)
    run.fit(fake_lit(), datamodule=FakeData())
    assert names(tmp_path) == ["epoch_001.ckpt", "last.ckpt"]


@pytest.mark.parametrize("where", ["there", "copied", "moved"])
def test_the_best_of_the_resumed_run_stays_the_best(tmp_path: Path, where: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.3, 0.5, 0.2], max_epochs=3)
    if where != "there":
        shutil.copytree(old, tmp_path / "elsewhere")
    if where == "moved":
        shutil.rmtree(old)
    start = (old if where == "there" else tmp_path / "elsewhere") / "last.ckpt"
    saver = fit(new, [0.4, 0.1], start, max_epochs=5)
    assert saver.best_model_path == str(new / "epoch_001.ckpt")
    assert float(saver.best_model_score) == pytest.approx(0.5)
    assert names(new) == ["epoch_001.ckpt", "last.ckpt"]
    assert step(new / "epoch_001.ckpt") == 8


def test_a_better_one_takes_its_place_and_leaves_the_old_run_alone(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.3, 0.5], max_epochs=2)
    fit(new, [0.4, 0.9], old / "last.ckpt", max_epochs=4)
    assert names(new) == ["epoch_003.ckpt", "last.ckpt"]
    assert names(old) == ["epoch_001.ckpt", "last.ckpt"]


def test_every_kept_checkpoint_goes_along(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.3, 0.5, 0.4], keep=2, mode="min", max_epochs=3)
    fit(new, [0.2], old / "last.ckpt", keep=2, mode="min", max_epochs=4)
    assert names(new) == ["epoch_000.ckpt", "epoch_003.ckpt", "last.ckpt"]


def test_a_run_resumed_at_its_end_knows_its_best(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.5, 0.2], max_epochs=2)
    saver = fit(new, [], old / "last.ckpt", max_epochs=2)
    assert saver.best_model_path == str(new / "epoch_000.ckpt")


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_a_best_one_that_is_lost_is_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.9, 0.2], max_epochs=2)
    (old / "epoch_000.ckpt").write_bytes(b"")
    if damage == "gone":
        (old / "epoch_000.ckpt").unlink()
    with caplog.at_level(logging.WARNING, "densekit"):
        saver = fit(new, [0.3, 0.4], old / "last.ckpt", max_epochs=4)
    assert "epoch_000.ckpt: one of the best checkpoints so far" in caplog.text
    assert saver.best_model_path == str(new / "epoch_003.ckpt")


def test_without_a_monitor_the_newest_goes_along(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fit(old, [0.9, 0.2], monitor=None, max_epochs=2)
    saver = fit(new, [0.1], old / "last.ckpt", monitor=None, max_epochs=3)
    assert names(new) == ["epoch_002.ckpt", "last.ckpt"]
    assert saver.best_model_path == str(new / "epoch_002.ckpt")
    assert names(old) == ["epoch_001.ckpt", "last.ckpt"]


def test_measuring_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    saver = Checkpoint(tmp_path, "val/score")
    run = trainer(tmp_path, callbacks=[Score([0.1, 0.2, 0.0]), saver], max_epochs=2)
    run.fit(fake_lit(), datamodule=FakeData())
    run.validate(fake_lit(), datamodule=FakeData(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert Path(saver.best_model_path).name == "epoch_001.ckpt"


class Stopped(Score):
    """Counts the validations of a run."""

    seen = 0

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        self.seen += 1


@pytest.mark.parametrize(
    ("scores", "validations"),
    [
        ([0.5, nan, nan, 0.6, 0.6, 0.6], 6),  # nan counts neither way: two without progress
        ([nan] * 6, 6),
        ([0.5, 0.4, nan, 0.4, 0.9, 0.9], 4),
    ],
)
def test_early_stopping_leaves_out_what_is_no_number(
    tmp_path: Path, scores: list[float], validations: int
) -> None:
    score = Stopped(scores)
    stop = EarlyStopping("val/score", mode="max", patience=2, check_finite=False)
    run = trainer(tmp_path, callbacks=[score, stop], max_epochs=6)
    run.fit(fake_lit(), datamodule=FakeData())
    assert score.seen == validations


def test_early_stopping_goes_on_counting_in_a_resumed_run(tmp_path: Path) -> None:
    def go(scores: list[float], folder: str, start: Path | None = None) -> int:
        score = Stopped(scores)
        stop = EarlyStopping("val/score", mode="max", patience=3, check_finite=False)
        saver = Checkpoint(tmp_path / folder, "val/score")
        epochs = len(scores) if start is None else 9
        run = trainer(tmp_path, callbacks=[score, stop, saver], max_epochs=epochs)
        run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=start, weights_only=True)
        return score.seen

    go([0.5, 0.4], "old")
    assert go([0.4, 0.4, 0.9], "new", tmp_path / "old" / "last.ckpt") == 2


def test_a_run_without_a_validation_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = fit(tmp_path, [], max_steps=1, num_sanity_val_steps=0)
    assert "ended before its first validation: only last.ckpt is kept" in caplog.text
    assert not saver.best_k_models
    assert names(tmp_path) == ["last.ckpt"]
