"""Checkpoints: what they hold, that a resumed run is the run, that none is ever half written."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from densekit.training import Checkpoint, Cosine, Ema, best_checkpoint, furthest_checkpoint
from densekit.training.checkpoint_io import AtomicCheckpointIO, UnwritableError
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer

Make = Callable[[], list[Callback]]


class Terminate(Callback):
    """What SIGTERM does to a run: Lightning stops between two steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer._signal_connector.received_sigterm = True


def fit(folder: Path, callbacks: list[Callback], **settings: Any) -> dict[str, Tensor]:
    """Trains the fake model with dropout, momentum and a schedule, in 4 steps an epoch."""
    ckpt_path = settings.pop("ckpt_path", None)
    torch.manual_seed(3)
    lit = fake_lit(FakeModel(dropout=0.2), schedule=Cosine(warmup_steps=3))
    run = trainer(folder, callbacks=callbacks, **settings)
    run.fit(lit, datamodule=FakeData(), ckpt_path=ckpt_path, weights_only=True)
    return lit.state_dict()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("extra", [list, lambda: [Ema(0.9)]], ids=["plain", "ema"])
@pytest.mark.parametrize("every", [1, 3], ids=["validated", "validated seldom"])
def test_resumed_at_the_end_of_an_epoch_is_bit_equal(
    tmp_path: Path, extra: Make, every: int
) -> None:
    often = {"check_val_every_n_epoch": every}
    straight = fit(tmp_path, extra(), max_epochs=4, **often)
    # The schedule knows the length of the run: the first half must believe in four epochs too.
    stop = Stop(epochs=2)
    fit(tmp_path, [*extra(), Checkpoint(tmp_path), stop], max_epochs=4, **often)
    resumed = fit(
        tmp_path,
        [*extra(), Checkpoint(tmp_path)],
        max_epochs=4,
        ckpt_path=tmp_path / "last.ckpt",
        **often,
    )
    assert_equal(resumed, straight)


@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_steps": 8}, {"max_steps": 6}])
def test_a_resumed_run_with_nothing_left_to_train_can_be_resumed(
    tmp_path: Path, limit: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path / "a", [Checkpoint(tmp_path / "a")], **limit)
    saved = tmp_path / "a" / "last.ckpt"
    with caplog.at_level(logging.INFO):
        fit(tmp_path / "b", [Checkpoint(tmp_path / "b")], ckpt_path=saved, **limit)
    assert "Nothing left to train" in caplog.text
    again = tmp_path / "b" / "last.ckpt"
    epochs = [torch.load(path, weights_only=True)["epoch"] for path in (saved, again)]
    assert epochs[0] == epochs[1]
    longer = {key: value + 3 for key, value in limit.items()}
    ends = [fit(tmp_path, [Checkpoint(tmp_path)], ckpt_path=p, **longer) for p in (saved, again)]
    assert_equal(*ends)


class Stop(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


@pytest.mark.parametrize("step", [5, 6, 8])
@pytest.mark.parametrize("extra", [list, lambda: [Ema(0.9)]], ids=["plain", "ema"])
def test_terminated_run_resumes_bit_equal(tmp_path: Path, extra: Make, step: int) -> None:
    straight = fit(tmp_path, extra(), max_epochs=4)
    with pytest.raises(SIGTERMException):
        fit(tmp_path, [*extra(), Checkpoint(tmp_path), Terminate(step)], max_epochs=4)
    saved = tmp_path / "last.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == step
    callbacks = [*extra(), Checkpoint(tmp_path)]
    assert_equal(fit(tmp_path, callbacks, max_epochs=4, ckpt_path=saved), straight)


def test_saved_within_an_epoch_resumes_bit_equal(tmp_path: Path) -> None:
    straight = fit(tmp_path, [], max_epochs=4, accumulate_grad_batches=2)
    settings = {"max_epochs": 4, "accumulate_grad_batches": 2}
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, [Checkpoint(tmp_path, last_every_n_steps=3), PowerCut(8)], **settings)
    saved = tmp_path / "last.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 3
    assert_equal(fit(tmp_path, [Checkpoint(tmp_path)], ckpt_path=saved, **settings), straight)


class PowerCut(Callback):
    """Fails at a batch, counted over the whole run."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_train_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("extra", [list, lambda: [Ema(0.9)]], ids=["plain", "ema"])
def test_checkpoint_holds_tensors_numbers_and_strings(tmp_path: Path, extra: Make) -> None:
    lit = fake_lit(config="seed: 0\n")
    callbacks = [*extra(), Checkpoint(tmp_path, monitor="val/loss", mode="min")]
    trainer(tmp_path, callbacks=callbacks, max_epochs=1).fit(lit, datamodule=FakeData())
    for name in ("last.ckpt", "epoch_000.ckpt"):
        checkpoint = torch.load(tmp_path / name, weights_only=True)
        assert checkpoint["config"] == "seed: 0\n"
        assert checkpoint["info"] == lit.model.info
        assert {key.split(".")[0] for key in checkpoint["state_dict"]} == {"model"}


def test_best_is_chosen_by_the_monitor_and_last_is_always_the_last(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.3, float("nan")])

    class Score(Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            pl_module.log("val/score", next(scores))

    saver = Checkpoint(tmp_path, monitor="val/score")
    trainer(tmp_path, callbacks=[Score(), saver], max_epochs=4).fit(
        fake_lit(), datamodule=FakeData()
    )
    assert sorted(path.name for path in tmp_path.glob("*")) == ["epoch_001.ckpt", "last.ckpt"]
    assert Path(saver.best_model_path).name == "epoch_001.ckpt"
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 16
    (state,) = (v for k, v in last["callbacks"].items() if "Checkpoint" in k)
    assert Path(state["best_model_path"]).name == "epoch_001.ckpt"


def test_saving_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("lightning.pytorch")
    log.addHandler(caplog.handler)
    try:
        fit(tmp_path, [Checkpoint(tmp_path)], max_epochs=1)
    finally:
        log.removeHandler(caplog.handler)
    assert (tmp_path / "last.ckpt").exists()
    assert caplog.messages  # it hears what Lightning says
    assert not [message for message in caplog.messages if "weights_only" in message]


def test_an_error_leaves_the_last_checkpoint_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, [Checkpoint(tmp_path), PowerCut(7)], max_epochs=4)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_a_failed_save_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": 1}, path)

    def half(checkpoint: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("densekit.training.checkpoint_io.torch.save", half)
    with pytest.raises(OSError, match="disk full"):
        writer.save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(UnwritableError, match=r"last\.ckpt: .* got No space left on device; the"):
        AtomicCheckpointIO().save_checkpoint({"step": torch.zeros(9)}, tmp_path / "last.ckpt")


def test_the_trainer_writes_through_the_atomic_writer(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[Checkpoint(tmp_path)], max_epochs=1)
    run.fit(fake_lit(), datamodule=FakeData())
    assert type(run.strategy.checkpoint_io) is AtomicCheckpointIO


def test_newest_readable_checkpoint_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, last = tmp_path / "epoch_000.ckpt", tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, good)
    torch.save({"state_dict": {"w": torch.ones(1000)}}, last)
    for file in (last, good):
        os.utime(file, (1e9, 1e9))  # one tick of the clock
    assert furthest_checkpoint(tmp_path) == last
    assert furthest_checkpoint(good) == good
    last.write_bytes(last.read_bytes()[:2000])
    with caplog.at_level(logging.WARNING):
        assert furthest_checkpoint(last) == good
    assert "last.ckpt cannot be read" in caplog.text
    good.write_bytes(b"")
    with pytest.raises(ValueError, match="expected a readable checkpoint, got broken ones"):
        furthest_checkpoint(tmp_path)


def test_a_checkpoint_that_would_run_code_is_not_readable(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="expected a readable checkpoint, got broken ones"):
        furthest_checkpoint(tmp_path)


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing.ckpt: expected a checkpoint"):
        furthest_checkpoint(tmp_path / "nothing.ckpt")


def test_of_a_folder_the_best_is_found_by_what_the_furthest_knows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = {"Checkpoint{}": {"best_model_path": "/gone/epoch_001.ckpt"}, "Curves": {}}
    last = {"global_step": 9, "epoch": 2, "callbacks": states}
    torch.save({"global_step": 6, "epoch": 1}, tmp_path / "epoch_001.ckpt")
    torch.save(last, tmp_path / "last.ckpt")
    torch.save({**last, "global_step": 3, "callbacks": {}}, tmp_path / "epoch_000.ckpt")
    assert best_checkpoint(tmp_path) == tmp_path / "epoch_001.ckpt"
    assert furthest_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "epoch_001.ckpt").unlink()
    assert best_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    assert "epoch_001.ckpt, the best checkpoint, is missing" in caplog.text
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")  # weights alone are of no step
    assert furthest_checkpoint(tmp_path) == tmp_path / "epoch_000.ckpt"


def test_logs_are_written_before_a_checkpoint(tmp_path: Path) -> None:
    """A run that is killed goes on from the checkpoint, with the rows that were logged before."""
    seen: list[list[str]] = []

    class Look(Callback):
        def on_save_checkpoint(self, *_: Any) -> None:
            file = tmp_path / "csv" / "metrics.csv"
            seen.append(file.read_text().splitlines() if file.is_file() else [])

    log = CSVLogger(tmp_path, "csv", version="", flush_logs_every_n_steps=1000)
    run = trainer(tmp_path, callbacks=[Look(), Checkpoint(tmp_path)], max_epochs=2, logger=log)
    run.fit(fake_lit(FakeModel()), datamodule=FakeData())
    rows = [len(lines) for lines in seen]  # the best and the last of both epochs
    assert rows[1] > 1
    assert rows[-1] > rows[1]
