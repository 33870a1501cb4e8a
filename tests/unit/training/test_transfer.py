"""What is frozen stays still, what starts late starts when it is said, and rates fall by stage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from densekit.backbones import ResNet, TimmBackbone
from densekit.heads import FCN
from densekit.model import DenseModel
from densekit.training import Transfer
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer


def _model() -> DenseModel:
    heads = {"segmentation": partial(FCN, num_classes=2, level="c3", aux_level=None)}
    return DenseModel(ResNet(18, width=8), heads)


def _fit(transfer: Transfer, folder: Path, epochs: int = 4) -> tuple[FakeModel, dict[str, Any]]:
    model = FakeModel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lit = fake_lit(model, transfer=transfer)
    trainer(folder, max_epochs=epochs).fit(lit, datamodule=FakeData())
    return model, before


def test_frozen_part_keeps_weights_and_statistics(tmp_path: Path) -> None:
    model, before = _fit(Transfer(frozen=["backbone"]), tmp_path)
    after = model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert all(name.startswith("heads.") for name in moved)


def test_gradual_part_moves_only_from_its_start_on(tmp_path: Path) -> None:
    stopped = Transfer(gradual=0.999)  # the one stage of the fake backbone starts after the end
    model, before = _fit(stopped, tmp_path / "late")
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if k.startswith("backbone."))
    model, before = _fit(Transfer(gradual=0.5), tmp_path / "half")
    after = model.state_dict()
    assert not torch.equal(before["backbone.0.weight"], after["backbone.0.weight"])
    assert not torch.equal(before["backbone.1.running_mean"], after["backbone.1.running_mean"])


def test_stages_start_from_the_deepest() -> None:
    starts = Transfer(gradual=0.8).starts(_model())
    assert starts == pytest.approx(
        {
            "backbone.layer2": 0.8 / 3,
            "backbone.layer1": 1.6 / 3,
            "backbone.conv1": 0.8,
            "backbone.bn1": 0.8,
        }
    )


@pytest.mark.parametrize(
    ("name", "stem", "stages"),
    [
        ("mobilenetv3_small_050", ["conv_stem", "bn1"], [f"blocks.{n}" for n in range(6)]),
        ("convnext_atto", ["stem"], [f"stages.{n}" for n in range(4)]),
        ("resnet10t", ["conv1", "bn1"], [f"layer{n}" for n in range(1, 5)]),
    ],
)
def test_stages_of_timm_start_one_by_one(name: str, stem: list[str], stages: list[str]) -> None:
    starts = Transfer(gradual=0.5).starts(nn.ModuleDict({"backbone": TimmBackbone(name)}))
    each = 0.5 / (len(stages) + 1)
    wanted = {stage: each * (place + 1) for place, stage in enumerate(stages[::-1])}
    wanted |= dict.fromkeys(stem, 0.5)
    assert starts == pytest.approx({f"backbone.model.{k}": start for k, start in wanted.items()})


def test_the_model_is_walked_where_a_stage_starts_and_not_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    starts = Transfer.starts
    monkeypatch.setattr(Transfer, "starts", lambda *a: calls.append(a) or starts(*a))
    counts = []
    for epochs in (1, 6):
        _fit(Transfer(gradual=0.5), tmp_path / str(epochs), epochs)
        counts.append(len(calls))
        calls.clear()
    assert counts[0] == counts[1]


def test_rates_fall_towards_the_stem_and_multiply_with_given_ones() -> None:
    model = _model()
    frozen = ["backbone.conv1", "backbone.bn1"]
    transfer = Transfer(frozen, layer_decay=0.5)
    transfer.freeze(model)
    assert transfer.lr_multipliers(model) == {"backbone.layer2": 0.5, "backbone.layer1": 0.25}
    given = Transfer(frozen, layer_decay=0.5, lr_multipliers={"backbone": 0.1, "heads": 2.0})
    assert given.lr_multipliers(model) == pytest.approx(
        {"backbone": 0.1, "heads": 2.0, "backbone.layer2": 0.05, "backbone.layer1": 0.025}
    )


def test_parts_say_what_trains_from_when_on_and_how_fast() -> None:
    model = _model()
    transfer = Transfer(
        frozen=["backbone.layer1"], gradual=0.5, lr_multipliers={"heads": 10, "backbone": 0.1}
    )
    transfer.freeze(model)
    parts = {part.name: part for part in transfer.parts(model)}
    assert parts["backbone.layer1"].trained == 0 < parts["backbone.layer1"].parameters
    late = parts["backbone.layer2"]
    assert late.trained == late.parameters
    assert late.start == pytest.approx(1 / 6)
    assert late.factor == pytest.approx(0.1)
    assert list(parts)[-1] == "heads.segmentation"
    assert parts["heads.segmentation"].factor == 10
    total = sum(p.numel() for p in model.parameters())
    assert sum(part.parameters for part in parts.values()) == total


def test_held_parts_are_out_of_training_mode() -> None:
    model = _model().train()
    transfer = Transfer(frozen=["backbone.bn1"], gradual=0.9)
    transfer.hold(model, share=0.4)
    modes = {n: m.training for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert modes["backbone.layer2.0.bn1"]
    assert not modes["backbone.layer1.0.bn1"]
    assert not modes["backbone.bn1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradual": 1.0}, "gradual: expected 0 to below 1, got 1.0"),
        ({"layer_decay": 0.0}, "layer_decay: expected above 0 to 1, got 0.0"),
    ],
)
def test_refuses_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transfer(**settings)


def test_unknown_part_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'backbone.layr1'; did you mean 'backbone.layer1'"):
        Transfer(frozen=["backbone.layr1"]).freeze(_model())
