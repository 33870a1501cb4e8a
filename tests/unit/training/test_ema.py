"""The moving average: its numbers, and that it is what leaves the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from densekit.training import Checkpoint, Ema
from densekit.training.ema import Average
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer

WEIGHT = "model.heads.spot.box.weight"


class Watch(Callback):
    """Notes a weight after each step and while validating."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.trained.append(pl_module.state_dict()[WEIGHT].clone())

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.validated.append(pl_module.state_dict()[WEIGHT].clone())

    on_test_batch_start = on_validation_batch_start


def test_average_is_validated_saved_and_left_behind(tmp_path: Path) -> None:
    watch, lit = Watch(), fake_lit()
    callbacks = [Ema(0.5), watch, Checkpoint(tmp_path)]
    trainer(tmp_path, callbacks=callbacks, max_epochs=1).fit(lit, datamodule=FakeData())
    average = watch.trained[0]
    for count, weight in enumerate(watch.trained[1:], start=1):
        average = torch.lerp(average, weight, 1 - min(0.5, (1 + count) / (10 + count)))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(watch.validated[0], average)
    torch.testing.assert_close(checkpoint["state_dict"][WEIGHT], average)
    torch.testing.assert_close(lit.state_dict()[WEIGHT], average)
    assert torch.equal(checkpoint["current_model_state"][WEIGHT], watch.trained[-1])


def test_training_itself_is_not_changed(tmp_path: Path) -> None:
    plain, averaged = Watch(), Watch()
    trainer(tmp_path, callbacks=[plain], max_epochs=2).fit(fake_lit(), datamodule=FakeData())
    callbacks = [Ema(0.9), averaged]
    trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(fake_lit(), datamodule=FakeData())
    assert all(map(torch.equal, plain.trained, averaged.trained))


def test_counters_are_copied_not_averaged(tmp_path: Path) -> None:
    lit = fake_lit()
    trainer(tmp_path, callbacks=[Ema(0.9)], max_epochs=2).fit(lit, datamodule=FakeData())
    assert lit.state_dict()["model.backbone.1.num_batches_tracked"] == 8


@pytest.mark.parametrize("measure", ["validate", "test"])
def test_a_checkpoint_measured_after_training_is_that_checkpoint(
    tmp_path: Path, measure: str
) -> None:
    watch, lit = Watch(), fake_lit()
    callbacks = [Ema(0.9), watch, Checkpoint(tmp_path, keep=-1)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=2)
    run.fit(lit, datamodule=FakeData())
    first = tmp_path / "epoch_000.ckpt"
    call = getattr(run, measure)
    call(lit, datamodule=FakeData(), ckpt_path=first, verbose=False, weights_only=True)
    expected = torch.load(first, weights_only=True)["state_dict"][WEIGHT]
    assert torch.equal(watch.validated[-1], expected)


def test_an_error_in_validation_gives_the_weights_back(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_validation_batch_start(self, *_: Any) -> None:
            raise RuntimeError("broken image")

    watch, lit = Watch(), fake_lit()
    with pytest.raises(RuntimeError, match="broken image"):
        trainer(tmp_path, callbacks=[Ema(0.9), watch, Fail()], max_epochs=1).fit(
            lit, datamodule=FakeData()
        )
    assert torch.equal(lit.state_dict()[WEIGHT], watch.trained[-1])


def test_an_update_never_asks_the_device_for_a_number() -> None:
    # A tensor on `meta` has no values: to read one on the host is an error there.
    model = FakeModel().to("meta")
    average = Average(model, torch.device("meta"), 0.9)
    for _ in range(3):
        average.update_parameters(model)
    assert average.n_averaged == 3
    assert average.n_averaged.device.type == "cpu"


def test_a_resumed_average_goes_on(tmp_path: Path) -> None:
    whole, parts = fake_lit(), fake_lit()
    callbacks = [Ema(0.9), Checkpoint(tmp_path / "whole")]
    trainer(tmp_path, callbacks=callbacks, max_epochs=2).fit(whole, datamodule=FakeData())
    for epochs, start in ((1, None), (2, tmp_path / "last.ckpt")):
        callbacks = [Ema(0.9), Checkpoint(tmp_path)]
        trainer(tmp_path, callbacks=callbacks, max_epochs=epochs).fit(
            parts, datamodule=FakeData(), ckpt_path=start, weights_only=True
        )
    assert torch.equal(parts.state_dict()[WEIGHT], whole.state_dict()[WEIGHT])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["averaging_state"] == {"n_averaged": torch.tensor(8)}


def test_decay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="decay: expected .*, got 1.5"):
        Ema(1.5)
