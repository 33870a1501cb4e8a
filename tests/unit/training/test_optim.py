"""Parameter groups, the real learning rate, and what the device offers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from densekit.training.devices import check_sync_batch_norm
from densekit.training.optim import batch_size_scale, build_optimizer, parameter_groups
from tests.unit.training.fakes import FakeData, FakeSource, fake_lit, trainer

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)


def make_model() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return model.to(memory_format=torch.channels_last)


def test_norm_and_bias_have_no_decay_and_frozen_parameters_no_group() -> None:
    model = make_model()
    model[0].weight.requires_grad_(False)
    decay, rest = sorted(parameter_groups(model, 1e-2, 0.1), key=lambda group: group["name"])
    assert decay["params"] == [model[2].weight]
    assert (decay["name"], decay["weight_decay"]) == ("decay", 1e-2)
    assert {id(p) for p in rest["params"]} == {
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    }
    assert (rest["name"], rest["weight_decay"]) == ("no_decay", 0.0)


def test_longest_prefix_sets_the_learning_rate() -> None:
    groups = parameter_groups(make_model(), 1e-2, 1.0, {"2": 0.5, "2.bias": 0.1})
    assert {group["name"]: group["lr"] for group in groups} == {
        "decay": 1.0,
        "no_decay": 1.0,
        "2.decay": 0.5,
        "2.bias.no_decay": 0.1,
    }


def test_misspelt_prefix_and_frozen_model_are_refused() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="got 'bakbone'; did you mean 'backbone'"):
        parameter_groups(model, 0.0, 0.1, {"bakbone": 0.1})
    with pytest.raises(ValueError, match="expected a trainable parameter"):
        parameter_groups(model.requires_grad_(False), 0.0, 0.1)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adam", "RMSprop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_step_is_the_plain_step(name: str, dtype: torch.dtype) -> None:
    factory = partial(getattr(torch.optim, name), lr=0.05, weight_decay=0.1)
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = make_model().to(dtype).eval()  # batch norm would leave the bias a zero gradient
        optimizer = build_optimizer(factory, model, fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 3, 8, 8, dtype=dtype)).square().mean().backward()
            optimizer.step()
        results.append(model.state_dict())
        assert bool(optimizer.defaults.get("fused")) == (fused and name != "RMSprop")
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_a_chosen_implementation_is_kept() -> None:
    chosen = partial(SGD, foreach=True)
    assert build_optimizer(chosen, make_model()).defaults["fused"] is None


def test_defaults_of_the_optimiser_count() -> None:
    groups = build_optimizer(torch.optim.AdamW, make_model()).param_groups
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in groups} == {
        "decay": (1e-3, 1e-2),
        "no_decay": (1e-3, 0.0),
    }


def fake_trainer(world_size: int = 2, accumulate: int = 3) -> Any:
    data = FakeData({"a": FakeSource(batch_size=4), "b": FakeSource(batch_size=1)})
    return SimpleNamespace(
        world_size=world_size, accumulate_grad_batches=accumulate, datamodule=data
    )


def test_learning_rate_is_scaled_to_the_images_of_a_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert batch_size_scale(fake_trainer(), 16) == 30 / 16
    assert "5 images x 2 processes x 3 accumulated = 30 per step; configured for 16" in caplog.text
    assert batch_size_scale(fake_trainer(), None) == 1.0


def test_scaling_without_what_it_needs_is_refused() -> None:
    with pytest.raises(ValueError, match="base_batch_size: expected at least 1, or null, got 0"):
        batch_size_scale(fake_trainer(), 0)
    nothing: Any = SimpleNamespace(datamodule=None)
    with pytest.raises(TypeError, match="expected a data module with"):
        batch_size_scale(nothing, 16)


def test_scale_reaches_the_optimiser(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=1, limit_val_batches=0, accumulate_grad_batches=2)
    run.fit(fake_lit(optimizer=SGD, base_batch_size=16), datamodule=FakeData())
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 8 / 16)


def test_gradients_can_be_clipped(tmp_path: Path) -> None:
    settings = {"max_steps": 2, "limit_val_batches": 0, "gradient_clip_val": 1e-9}
    lit = fake_lit(optimizer=partial(torch.optim.SGD, lr=1.0))
    before = lit.state_dict()["model.heads.spot.box.weight"].clone()
    trainer(tmp_path, **settings).fit(lit, datamodule=FakeData())
    moved = (lit.state_dict()["model.heads.spot.box.weight"] - before).abs().max()
    assert 0 <= moved < 1e-7


def test_sync_batch_norm_on_cpu_is_refused() -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(make_model())
    two: Any = SimpleNamespace(strategy=strategy, world_size=2)
    with pytest.raises(ValueError, match="trainer.sync_batchnorm.*expected GPUs"):
        check_sync_batch_norm(model, two)
    one: Any = SimpleNamespace(strategy=strategy, world_size=1)
    check_sync_batch_norm(model, one)
    check_sync_batch_norm(make_model(), two)
