"""The guard against losses that are no numbers: it stops in time, tells why and keeps evidence."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from densekit.ops import dist
from densekit.training import Checkpoint, NonFinite, NonFiniteLossError
from densekit.training.evidence import stored_step
from densekit.training.likely_cause import cause_of_loss
from densekit.training.step import regrade, rerun
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


def pixels(lit: Any, batch: Any) -> None:
    batch["image"] = batch["image"].float()
    batch["image"][0] = float("nan")


def huge(lit: Any, batch: Any) -> None:
    with torch.no_grad():
        lit.model.heads.spot.box.bias.fill_(3e38)


def fit(folder: Path, harm: Any, **settings: Any) -> None:
    torch.manual_seed(3)
    callbacks = [Spoil(harm), NonFinite(folder / "bad"), Checkpoint(folder)]
    trainer(folder, callbacks=callbacks, max_epochs=4).fit(
        fake_lit(FakeModel(), **settings), datamodule=FakeData()
    )


@pytest.mark.parametrize(
    ("harm", "cause", "module"),
    [
        (weights, "weights were already not finite", "backbone.0 (Conv2d)"),
        (
            boxes,
            "broken data: boxes of data set 'toy' is not finite, in ['image_",
            "none in a module",
        ),
        (no_area, "boxes without an area, in ['image_", "none in a module"),
        (huge, "the learning rate 0.1 is too high", "none in a module"),
    ],
)
def test_cause_and_module_are_named(tmp_path: Path, harm: Any, cause: str, module: str) -> None:
    with pytest.raises(NonFiniteLossError) as caught:
        fit(tmp_path, harm)
    assert cause in str(caught.value)
    assert module in str(caught.value)
    assert "image_" in str(caught.value)


def test_a_step_in_micro_batches_is_repeated_in_them(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"First non-finite output: backbone\.0") as caught:
        fit(tmp_path, weights, micro_batches=2)
    assert "spot/box = nan" in str(caught.value)


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


class Kernel(torch.autograd.Function):
    """The identity; its gradient is not finite, under autocast or always."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, harm: float, always: bool) -> torch.Tensor:
        ctx.harm = harm if always or torch.is_autocast_enabled("cpu") else 0.0
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0] + ctx.harm, None, None


class Broken(torch.nn.Linear):
    """A layer whose weight gets a gradient that is not finite; everything else is well."""

    always, harm = True, float("nan")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = Kernel.apply(self.weight, self.harm, self.always)
        return torch.nn.functional.linear(x, weight, self.bias)


@pytest.mark.parametrize("harm", [float("nan"), float("inf"), 1e37])
@pytest.mark.parametrize(
    ("precision", "always", "cause"),
    [
        ("32-true", True, "a layer or loss with an infinite derivative"),
        ("bf16-mixed", True, "a layer or loss with an infinite derivative"),
        ("bf16-mixed", False, "in float32 it is finite; use precision=32-true"),
    ],
)
def test_gradients_are_looked_at_too(
    tmp_path: Path, harm: float, precision: str, always: bool, cause: str
) -> None:
    model = FakeModel()
    layer = model.heads.spot.box = Broken(4, 4)
    layer.always, layer.harm = always, harm
    trace = Trace()
    run = trainer(tmp_path, callbacks=[trace, NonFinite(tmp_path)], precision=precision)
    with pytest.raises(NonFiniteLossError) as caught:
        run.fit(fake_lit(model), datamodule=FakeData())
    text = str(caught.value)
    assert "the gradient of step 0 is not finite, the loss is: spot/box = " in text
    assert "First non-finite gradient: heads.spot.box.weight." in text
    assert cause in text
    assert "too high" not in text
    assert trace.calls[-2:] == ["NonFiniteLossError", "after backward"]  # weights are as before
    saved = torch.load(tmp_path / "rank_0.pt", weights_only=True)
    assert saved["module"] == "heads.spot.box.weight"


def test_first_gradient_on_the_way_back_is_named(tmp_path: Path) -> None:
    class Root(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - x.detach()).sqrt() + x  # infinite slope at 0, times 0

    model = FakeModel()
    model.backbone.append(Root())
    run = trainer(tmp_path, callbacks=[NonFinite(tmp_path)])
    with pytest.raises(
        NonFiniteLossError, match=r"gradient: backbone\.1\.(bias|weight)\."
    ) as caught:
        run.fit(fake_lit(model), datamodule=FakeData())
    assert "learning rate is not to blame" in str(caught.value)


class Trace(Callback):
    """Notes what happened, and the weights at each backward pass."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bias: Any = None

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Any) -> None:
        self.calls.append("before backward")
        self.bias = pl_module.model.heads.spot.box.bias.detach().clone()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, _: Any) -> None:
        self.calls.append("step")

    def on_exception(self, trainer: L.Trainer, pl_module: Any, error: BaseException) -> None:
        self.calls.append(type(error).__name__)
        graded = pl_module.model.heads.spot.box.bias.grad is not None
        self.calls.append("after backward" if graded else "without backward")
        assert torch.equal(pl_module.model.heads.spot.box.bias, self.bias)


@pytest.mark.parametrize(("processes", "when"), [(1, "after backward"), (2, "without backward")])
def test_asks_before_the_weights_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, when: str
) -> None:
    group = SimpleNamespace(world_size=lambda: processes, rank=dist.rank)
    monkeypatch.setattr("densekit.training.non_finite.dist", group)
    trace = Trace()
    callbacks = [trace, Spoil(boxes, step=0), NonFinite(tmp_path)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=1)
    with pytest.raises(NonFiniteLossError):
        run.fit(fake_lit(), datamodule=FakeData())
    assert trace.calls[-2:] == ["NonFiniteLossError", when]
    assert "step" not in trace.calls


def test_every_part_of_an_accumulated_step_is_checked(tmp_path: Path) -> None:
    class SpoilThird(Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 2:
                boxes(pl_module, batch["toy"])

    callbacks = [SpoilThird(), NonFinite(tmp_path)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=1, accumulate_grad_batches=4)
    with pytest.raises(NonFiniteLossError):
        run.fit(fake_lit(), datamodule=FakeData())
    saved = torch.load(tmp_path / "rank_0.pt", weights_only=True)
    assert torch.isinf(saved["batches"]["toy"]["boxes"]).any()
    assert run.fit_loop.batch_idx == 2


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


def explode(rate: float) -> Any:
    def harm(lit: Any, batch: Any) -> None:
        for group in lit.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    return harm


@pytest.mark.parametrize(
    ("rate", "settings"),
    [(1e39, {}), (1e39, {"limit_val_batches": 0}), (1e25, {})],
    ids=["validated", "saved", "finite weights, infinite loss"],
)
def test_weights_that_explode_in_the_last_step_are_not_saved(
    tmp_path: Path, rate: float, settings: dict[str, Any]
) -> None:
    callbacks = [Spoil(explode(rate), step=7), NonFinite(tmp_path), Checkpoint(tmp_path)]
    run = trainer(tmp_path, callbacks=callbacks, max_epochs=2, **settings)
    with pytest.raises(NonFiniteLossError, match=r"weights after step 8 ") as caught:
        run.fit(fake_lit(FakeModel()), datamodule=FakeData())
    assert "too large at learning rate" in str(caught.value)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


class Tell(Callback):
    """Keeps the weights, the optimiser and the running statistics after some steps."""

    def __init__(self) -> None:
        self.states: dict[int, Any] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        states = (pl_module.state_dict(), trainer.optimizers[0].state_dict())
        self.states[trainer.global_step] = copy.deepcopy(states)


@pytest.mark.parametrize("harm", [boxes, pixels])
def test_a_skipped_step_changes_nothing_but_the_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Any
) -> None:
    tell, guard = Tell(), NonFinite(tmp_path, skip=1)
    run = trainer(tmp_path, callbacks=[Spoil(harm), guard, tell], max_epochs=2)
    run.fit(fake_lit(FakeModel()), datamodule=FakeData())
    (before, momentum), (after, moved) = tell.states[5], tell.states[6]
    assert all(torch.equal(before[name], after[name]) for name in before)
    for index, state in momentum["state"].items():
        assert torch.equal(state["momentum_buffer"], moved["state"][index]["momentum_buffer"])
    assert run.global_step == 8
    assert guard.state_dict() == {"skipped": 1}
    assert "image_" in caplog.text
    assert "This step is skipped (1 of 1)" in caplog.text


def test_no_more_steps_are_skipped_than_allowed(tmp_path: Path) -> None:
    guard = NonFinite(tmp_path, skip=1)
    guard.load_state_dict({"skipped": 1})
    with pytest.raises(NonFiniteLossError):
        trainer(tmp_path, callbacks=[Spoil(boxes), guard], max_epochs=2).fit(
            fake_lit(FakeModel()), datamodule=FakeData()
        )


def test_the_saved_step_is_repeated_exactly(tmp_path: Path) -> None:
    torch.manual_seed(3)
    lit = fake_lit(FakeModel(dropout=0.5))
    callbacks = [Spoil(huge), NonFinite(tmp_path)]
    with pytest.raises(NonFiniteLossError):
        trainer(tmp_path, callbacks=callbacks, max_epochs=4).fit(lit, datamodule=FakeData())
    saved = torch.load(tmp_path / "rank_0.pt", weights_only=True)
    model = FakeModel(dropout=0.5).train()
    model.load_state_dict(saved["state_dict"])
    step = stored_step(saved, model, nullcontext)
    terms, module = rerun(step)
    assert terms == saved["terms"]
    assert module is None
    assert regrade(step)[1][0].startswith("heads.spot.box")
    assert "1.0 is too high" not in cause_of_loss(step)
