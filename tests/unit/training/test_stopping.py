"""A run that is asked to end: it ends between two steps, and what is resumed is the same run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from densekit.training import Checkpoint, Cosine, Ema
from densekit.training.stopping import Stopping
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer


class Figures(Callback):
    """Step and figures of every validation that was finished."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        del found["val/spot/distance/cat"]  # nan
        self.seen.append((trainer.global_step, found))


class Send(Callback):
    """Sends a signal to this process at one batch of training, validation or test."""

    def __init__(self, stage: str, at: int, number: int = signal.SIGTERM) -> None:
        self.stage, self.left, self.number = stage, at, number

    def _count(self, stage: str) -> None:
        self.left -= stage == self.stage
        if stage == self.stage and self.left == 0:
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, *_: Any) -> None:
        self._count("train")

    def on_validation_batch_start(self, *_: Any) -> None:
        self._count("val")

    def on_test_batch_start(self, *_: Any) -> None:
        self._count("test")


def fit(
    folder: Path, callbacks: list[Callback], ckpt_path: Path | None = None, **settings: Any
) -> tuple[dict[str, Tensor], list[Any]]:
    """Trains the fake model, 4 batches an epoch, 3 batches a validation."""
    torch.manual_seed(3)
    lit = fake_lit(FakeModel(dropout=0.2), schedule=Cosine(warmup_steps=3))
    figures, stopping = Figures(), Stopping()
    run = trainer(folder, callbacks=[figures, stopping, *callbacks], max_epochs=3, **settings)
    try:
        with stopping.listening():
            run.fit(lit, datamodule=FakeData(), ckpt_path=ckpt_path, weights_only=True)
    except SIGTERMException:
        assert stopping.signal is not None
    return lit.state_dict(), figures.seen


@pytest.mark.parametrize("extra", [list, lambda: [Ema(0.9)]], ids=["plain", "ema"])
@pytest.mark.parametrize(
    ("stage", "at", "settings"),
    [
        ("train", 1, {}),
        ("train", 8, {}),  # the last of an epoch: its validation is still to be done
        ("val", 4, {}),  # within a validation
        ("val", 3, {}),  # its last batch
        ("train", 6, {"val_check_interval": 2}),
        ("val", 5, {"val_check_interval": 2}),
        ("train", 6, {"accumulate_grad_batches": 4}),
        ("train", 7, {"accumulate_grad_batches": 3}),
        ("val", 2, {"accumulate_grad_batches": 2, "val_check_interval": 3}),
        ("train", 5, {"check_val_every_n_epoch": 2}),
    ],
)
def test_nothing_is_lost_and_nothing_measured_in_part(
    tmp_path: Path, extra: Any, stage: str, at: int, settings: dict[str, Any]
) -> None:
    straight, expected = fit(tmp_path / "straight", extra(), **settings)
    parts = [*extra(), Checkpoint(tmp_path), Send(stage, at)]
    _, before = fit(tmp_path, parts, **settings)
    assert len(before) < len(expected)
    saved = tmp_path / "last.ckpt"
    # Stopped once more, in the first validation: the place is right again after a resumed one.
    again = [*extra(), Checkpoint(tmp_path), Send("val", 2)]
    _, between = fit(tmp_path, again, saved, **settings)
    found, after = fit(tmp_path, [*extra(), Checkpoint(tmp_path)], saved, **settings)
    assert [*before, *between, *after] == expected
    assert [name for name in found if not torch.equal(found[name], straight[name])] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whatever_asks_is_saved(tmp_path: Path, number: int) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    fit(tmp_path, [Checkpoint(tmp_path), Send("train", 3, number)])
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_test_that_is_stopped_leaves_the_checkpoint_alone(tmp_path: Path) -> None:
    lit, stopping = fake_lit(), Stopping()
    run = trainer(
        tmp_path, callbacks=[Checkpoint(tmp_path), stopping, Send("test", 2)], max_epochs=1
    )
    run.fit(lit, datamodule=FakeData())
    saved = (tmp_path / "last.ckpt").read_bytes()
    with stopping.listening(), pytest.raises(SIGTERMException):
        run.test(lit, datamodule=FakeData(), verbose=False)
    assert (tmp_path / "last.ckpt").read_bytes() == saved


def test_outside_of_the_loops_the_process_ends_at_once() -> None:
    stopping = Stopping()
    with pytest.raises(SystemExit), stopping.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Stopping().listening():
        os.kill(os.getpid(), signal.SIGINT)
    assert stopping.signal == signal.SIGTERM


def test_a_second_interrupt_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = Stopping()
    stopping._looping = True
    with stopping.listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same one, sent on by a launcher
        monkeypatch.setattr("densekit.training.stopping.PATIENCE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping().listening():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("save", [{"last_every_n_steps": 2}, {"every_minutes": 0.0}])
@pytest.mark.parametrize("settings", [{}, {"val_check_interval": 2}], ids=["epoch", "often"])
def test_saved_by_step_or_time_before_a_validation_goes_on_with_it(
    tmp_path: Path, save: dict[str, Any], settings: dict[str, Any]
) -> None:
    _, expected = fit(tmp_path / "straight", [], **settings)

    class PowerCut(Callback):
        def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 8:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, [Checkpoint(tmp_path, **save), PowerCut()], **settings)
    saved = tmp_path / "last.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 8
    _, after = fit(tmp_path, [Checkpoint(tmp_path)], saved, **settings)
    assert after == expected[-len(after) :]
    assert after[0][0] == 8


def test_minutes_that_have_not_passed_save_nothing(tmp_path: Path) -> None:
    class PowerCut(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, [Checkpoint(tmp_path, every_minutes=10), PowerCut()])
    assert not (tmp_path / "last.ckpt").exists()
