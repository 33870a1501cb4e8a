"""Why a training ended is said once, whatever ended it, and kept in `metrics.json`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from densekit.training import EarlyStopping, MetricsFile, NonFinite, NonFiniteLossError
from tests.unit.training.fakes import FakeData, fake_lit, trainer
from tests.unit.training.test_best_checkpoint import Score


class Ends(Callback):
    """Ends the training after the third step."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            trainer.should_stop = True
            if self.error:
                raise self.error


def stopped(folder: Path, *callbacks: Any, **settings: Any) -> str:
    file = folder / "metrics.json"
    run = trainer(folder, callbacks=[*callbacks, MetricsFile(file)], **settings)
    with suppress(ValueError, SystemExit, NonFiniteLossError):
        run.fit(fake_lit(), datamodule=FakeData())
    return str(json.loads(file.read_text())["stopped"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_epochs": 2}, "trainer.max_epochs=2 is reached"),
        ({"max_epochs": 2, "max_steps": 3}, "trainer.max_steps=3 is reached"),
        (
            {"max_epochs": -1, "max_time": {"milliseconds": 1}},
            "trainer.max_time is reached, after 0 s",
        ),
    ],
)
def test_a_limit(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    assert stopped(tmp_path, **settings) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "a callback set trainer.should_stop"),
        (ValueError("key: expected\nmore"), "ValueError: key: expected"),
        (SIGTERMException(), "SIGTERMException"),
        (NonFiniteLossError(), "NonFiniteLossError: "),
    ],
)
def test_a_callback_or_an_error(tmp_path: Path, error: Any, reason: str) -> None:
    assert stopped(tmp_path, Ends(error), max_epochs=2) == reason


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    class Spoil(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            pl_module.model.heads.spot.box.bias.data.fill_(float("nan"))

    reason = stopped(tmp_path, Spoil(), NonFinite(tmp_path), max_epochs=1)
    assert reason.startswith("NonFiniteLossError: the loss of step 0 is not finite")


@pytest.mark.parametrize(
    ("mode", "scores", "told"),
    [
        ("max", [0.5, 0.9, 0.4, 0.8], "rise above 0.9000, its value after epoch 1"),
        ("min", [0.5, 0.4, 0.9, 0.4], "fall below 0.4000, its value after epoch 1"),
    ],
)
def test_early_stopping_names_the_best_value(
    tmp_path: Path, mode: str, scores: list[float], told: str
) -> None:
    stop = EarlyStopping("val/score", mode=mode, patience=2)
    reason = stopped(tmp_path, Score(scores), stop, max_epochs=9)
    assert reason == (f"early stopping: val/score did not {told}, in 2 validations (patience=2)")


def test_more_patience_continues_a_run_that_stopped_early(tmp_path: Path) -> None:
    short = EarlyStopping("val/score", mode="max", patience=2)
    stopped(tmp_path, Score([0.9, 0.4, 0.4]), short, max_epochs=9)
    long = EarlyStopping("val/score", mode="max", patience=4)
    long.load_state_dict(short.state_dict())
    assert (long.patience, long.wait_count, long.best_epoch) == (4, 2, 0)
