"""The network that is meant to be used is found in the files of self-supervised pre-trainings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densekit.backbones import ResNet
from densekit.backbones.unwrapping import chosen_prefix, is_of_pretraining, tensors_of
from tests.unit.interop.peers import saved


@pytest.mark.parametrize(
    ("prefixes", "used"),
    [
        (["module.encoder_q.", "module.encoder_k."], "module.encoder_q."),
        (["teacher.backbone.", "student.backbone."], "teacher.backbone."),
        (["online_network.", "target_network."], "online_network."),
        (["backbone.", "momentum_backbone."], "backbone."),
        (["backbone.", "backbone_momentum."], "backbone."),
        (["backbone."], "backbone."),
        (["a.", "b."], None),
        ([], None),
    ],
)
def test_the_network_that_is_meant(prefixes: list[str], used: str | None) -> None:
    assert chosen_prefix(prefixes) == used


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("fc.0.weight", True),
        ("projection_head.3.bias", True),
        ("head.mlp.0.weight", True),
        ("queue_ptr", True),
        ("layer1.0.fc.weight", False),
        ("decode_head.conv_seg.weight", False),
        ("segmentation_head.0.weight", False),
    ],
)
def test_projection_heads_are_told_from_decoders(name: str, left: bool) -> None:
    assert is_of_pretraining(name) is left


def test_nested_tensors() -> None:
    one = torch.ones(1)
    assert tensors_of({"teacher": {"a": one}, "student": {"a": one + 1}, "epoch": 1}) == {"a": one}
    assert tensors_of({"model": {"state_dict": {"a": one}}}) == {}
    assert tensors_of({"epoch": 1}) == {}


def _moco(body: dict[str, Tensor]) -> dict[str, Tensor]:
    query = {f"module.encoder_q.{key}": value for key, value in body.items()}
    other = {f"module.encoder_k.{key}": value + 1 for key, value in body.items()}
    return {**query, **other, "module.encoder_q.fc.0.weight": torch.ones(2, 2)}


def _swav(body: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {f"module.{key}": value for key, value in body.items()}
    return {**state, "module.projection_head.0.weight": torch.ones(2, 2)}


@pytest.mark.parametrize("pretraining", [_moco, _swav])
def test_backbone_weights_take_them(pretraining, tmp_path) -> None:
    torch.manual_seed(0)
    body = ResNet(18, width=8).state_dict()
    file = saved(tmp_path / "a.pth", {"state_dict": pretraining(body)})

    found = ResNet(18, width=8, weights=file).state_dict()

    assert all(torch.equal(found[key], value) for key, value in body.items())
