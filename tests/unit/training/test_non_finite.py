"""The guard against losses that are no numbers: it stops in time, tells why and keeps evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.training import Checkpoint, NonFinite, NonFiniteLossError
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer


class Spoil(Callback):
    """Does something harmful before a step."""

    def __init__(self, harm: Any, step: int = 5) -> None:
        self.harm, self.step = harm, step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            self.harm(pl_module, batch["toy"])


def weights(lit: Any, batch: Any) -> None:
    with torch.no_grad():
        lit.model.backbone[0].weight.fill_(float("nan"))


def boxes(lit: Any, batch: Any) -> None:
    batch["boxes"][0] = float("inf")


def no_area(lit: Any, batch: Any) -> None:
    batch["boxes"][1, 0] = torch.tensor([5.0, 5.0, 5.0, 9.0])
    huge(lit, batch)


def huge(lit: Any, batch: Any) -> None:
    with torch.no_grad():
        lit.model.heads.spot.box.bias.fill_(3e38)


def fit(folder: Path, harm: Any, *, compile: bool = False) -> None:
    torch.manual_seed(3)
    callbacks = [Spoil(harm), NonFinite(folder / "bad"), Checkpoint(folder)]
    trainer(folder, callbacks=callbacks, max_epochs=4).fit(
        fake_lit(FakeModel(), compile=compile), datamodule=FakeData()
    )


@pytest.mark.parametrize(
    ("harm", "cause", "module"),
    [
        (weights, "weights were already not finite", "backbone.0 (Conv2d)"),
        (boxes, "boxes of data set 'toy' is not finite", "none within a module"),
        (no_area, "boxes without an area, in ['image_", "none within a module"),
        (huge, "the learning rate 0.1 is too high", "none within a module"),
    ],
)
def test_cause_and_module_are_named(tmp_path: Path, harm: Any, cause: str, module: str) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        fit(tmp_path, harm)
    assert cause in str(caught.value)
    assert module in str(caught.value)
    assert "image_" in str(caught.value)


def test_evidence_is_saved_and_weights_are_not(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="rank_0.pt"):
        fit(tmp_path, boxes)
    saved = torch.load(tmp_path / "bad" / "rank_0.pt", weights_only=True)
    assert saved["step"] == 5
    assert len(saved["files"]["toy"]) == 4
    assert saved["batches"]["toy"]["image"].shape == (4, 3, 16, 16)
    assert not torch.isfinite(torch.tensor(saved["terms"]["spot/box"]))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert all(torch.isfinite(v).all() for v in last["state_dict"].values())


def test_modules_within_compiled_code_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.compile
    monkeypatch.setattr(
        "densekit.training.module.torch.compile", lambda fn: original(fn, backend="eager")
    )
    with pytest.raises(NonFiniteLossError, match=r"backbone\.0 \(Conv2d\)"):
        fit(tmp_path, weights, compile=True)


def test_healthy_run_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path, lambda lit, batch: None)
    assert not (tmp_path / "bad").exists()
