"""When `last.ckpt` is saved: once at the end of a run, and never while gradients accumulate."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from densekit.training import Checkpoint, Stopping
from densekit.training.loop_state import is_accumulating
from tests.unit.training.fakes import FakeData, fake_lit, trainer


class CountingCheckpoint(Checkpoint):
    """Notes each save of `last.ckpt`: the epoch, its batch, and whether gradients accumulate."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.saves: list[tuple[int, int, bool]] = []

    def _save_last(self, trainer: L.Trainer) -> None:
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        self.saves.append((trainer.current_epoch, batch, is_accumulating(trainer)))
        super()._save_last(trainer)


def saves(folder: Path, *callbacks: L.Callback, **settings: Any) -> list[tuple[int, int, bool]]:
    """The saves of two epochs of four batches, tried after every batch."""
    counting = CountingCheckpoint(folder, last_every_n_steps=1, every_minutes=0)
    run = trainer(folder, callbacks=[*callbacks, counting], max_epochs=2, **settings)
    run.fit(fake_lit(), datamodule=FakeData())
    return counting.saves


@pytest.mark.parametrize(
    ("settings", "at_the_end"),
    [
        ({}, 2),  # before the validation that follows, and after it
        ({"limit_val_batches": 0}, 1),
        ({"check_val_every_n_epoch": 3}, 1),
        ({"val_check_interval": 3}, 1),
        ({"val_check_interval": 2}, 2),
        ({"accumulate_grad_batches": 3, "limit_val_batches": 0}, 1),
    ],
)
def test_saves_at_the_last_batch(tmp_path: Path, settings: dict[str, Any], at_the_end: int) -> None:
    found = saves(tmp_path, **settings)
    assert [batch for _, batch, _ in found].count(4) == 2 * at_the_end
    assert found[-1][:2] == (1, 4)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["global_step"] == (4 if "accumulate_grad_batches" in settings else 8)


@pytest.mark.parametrize("every", [1, 3])
def test_no_save_while_gradients_accumulate(tmp_path: Path, every: int) -> None:
    found = saves(tmp_path, accumulate_grad_batches=2, val_check_interval=every)
    assert {batch for _, batch, _ in found} == {2, 4}
    assert not any(accumulates for *_, accumulates in found)


@pytest.mark.parametrize(("batch", "ends_after"), [(0, 2), (1, 2), (2, 4)])
def test_a_signal_waits_for_the_optimiser_step(tmp_path: Path, batch: int, ends_after: int) -> None:
    class Signal(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            if args[-1] == batch:
                stopping.signal = signal.SIGTERM

    stopping = Stopping()
    counting = CountingCheckpoint(tmp_path)
    callbacks = [Signal(), stopping, counting]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=2, accumulate_grad_batches=2)
    with pytest.raises(SIGTERMException):
        run.fit(fake_lit(), datamodule=FakeData())
    assert counting.saves == [(0, ends_after, False)]
