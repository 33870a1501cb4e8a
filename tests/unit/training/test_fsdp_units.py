"""Blocks of any backbone are units, if they are called as modules."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from densekit.backbones import ResNet, TimmBackbone
from densekit.backbones.base import Backbone
from densekit.heads import Classification
from densekit.model import DenseModel
from densekit.training.fsdp_units import units_of
from densekit.types import Features, FeatureSpec


def model_with(backbone: Backbone) -> DenseModel:
    return DenseModel(backbone, {"category": partial(Classification, num_classes=2)})


def names_of(model: DenseModel) -> list[str]:
    units = units_of(model)
    return [name for name, module in model.backbone.named_modules() if module in units]


def test_units_of_a_resnet_are_its_residual_blocks() -> None:
    model = model_with(ResNet(18, width=8)).train()
    expected = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert names_of(model) == expected
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("convnext_atto", 16),  # 12 blocks, and what is before each stage
        ("regnetx_002", 14),  # 13 blocks and the stem
        ("vgg11_bn", 0),  # layers in a row
    ],
)
def test_units_of_networks_of_timm(name: str, count: int) -> None:
    with torch.device("meta"):
        model = model_with(TimmBackbone(name))
        units = units_of(model)
    assert len(units) == count
    inner = [module for unit in units for module in unit.modules()]
    assert len(inner) == len(set(inner))


class Pair(nn.Module):
    """A block that is also used by a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)

    def both(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


class Own(Backbone):
    """A backbone of a plug-in that calls a method of its second block."""

    def __init__(self) -> None:
        super().__init__()
        self.features = {"c0": FeatureSpec(3, (1, 1)), "c1": FeatureSpec(3, (1, 1))}
        self.blocks = nn.ModuleList([Pair(), Pair()])

    def forward(self, x: Tensor) -> Features:
        return {"c0": x, "c1": self.blocks[1].both(self.blocks[0](x))}

    def trim(self, levels: Iterable[str]) -> None:
        """It has one level."""


def test_blocks_that_are_not_called_are_no_units() -> None:
    assert names_of(model_with(Own())) == ["blocks.0"]
