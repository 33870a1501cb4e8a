"""Moments, similarity and gradients of layers, on numbers that can be worked out by hand."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from densekit import DenseModel
from densekit.backbones import CifarResNet, TimmBackbone
from densekit.heads import Classification
from densekit.training import SignalFile, measure_signal
from densekit.training.signal_propagation import channel_moments, similarity
from densekit.types import Batch


def classifier(backbone: nn.Module) -> DenseModel:
    return DenseModel(backbone, heads={"classification": partial(Classification, num_classes=3)})


def batch_of(images: int) -> Batch:
    return {
        "image": torch.randint(0, 256, (images, 3, 16, 16), dtype=torch.uint8),
        "size": torch.full((images, 2), 16),
        "sample_valid": torch.ones(images, dtype=torch.bool),
        "key": torch.arange(images),
        "category": torch.arange(images) % 3,
    }


def test_moments_of_a_channel() -> None:
    first = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]])  # (2, 1, 2): mean 3, variance 5
    second = torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]])  # mean 1, variance 0
    assert channel_moments(torch.cat([first, second], 1)) == ((9 + 1) / 2, 5 / 2)


def test_similarity_of_layers() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    turned = 3 * x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) + 5
    assert similarity(x, turned) == pytest.approx(1)
    # Centred, three images are (-1, 1, 0) by one layer and (1, 1, -2) / 3 by the other.
    left, right = torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    assert similarity(left, right) == pytest.approx(0)
    assert similarity(left, torch.tensor([[0.0], [2.0], [2.0]])) == pytest.approx(3 / 4)
    assert math.isnan(similarity(left, torch.ones(3, 1)))


@pytest.mark.parametrize("settings", [{}, {"residual": False}, {"activation_checkpointing": True}])
def test_a_value_a_block_and_a_gradient_a_convolution(settings: dict[str, Any]) -> None:
    model, batch = classifier(CifarResNet(8, **settings)), batch_of(6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    signal = measure_signal(model, batch)
    assert {name: len(values) for name, values in signal.items()} == {
        "squared_mean": 3,
        "variance": 3,
        "similarity": 3,
        "gradient": 7,
    }
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())

    model.train()
    features = model.features(batch)
    model.loss(batch, features)["classification/ce"].backward()
    first, last = model.backbone.conv1, model.backbone.layer3[0].conv2
    for found, module in ((signal["gradient"][0], first), (signal["gradient"][-1], last)):
        assert found == pytest.approx(float(module.weight.grad.norm()), rel=1e-4)
    for place, level in enumerate(("c2", "c3", "c4")):
        moments = signal["squared_mean"][place], signal["variance"][place]
        assert moments == pytest.approx(channel_moments(features[level].detach()), rel=1e-4)


def test_frozen_layers_have_no_gradient() -> None:
    model = classifier(CifarResNet(8, freeze_stages=2))
    assert len(measure_signal(model, batch_of(2))["gradient"]) == 4


def test_a_plain_net_forgets_the_picture_sooner() -> None:
    # What batch norm keeps at one variance says nothing of whether two pictures can be told apart.
    last = {}
    for residual in (False, True):
        torch.manual_seed(0)
        signal = measure_signal(classifier(CifarResNet(32, residual=residual)), batch_of(16))
        last[residual] = signal["similarity"][-1], signal["gradient"][0] / signal["gradient"][-1]
    assert last[False][0] < last[True][0]
    assert last[False][1] > last[True][1]


def test_needs_blocks() -> None:
    model = classifier(TimmBackbone("resnet10t", pretrained=False))
    with pytest.raises(
        ValueError, match="expected a backbone with stages of blocks .* got TimmBackbone"
    ):
        measure_signal(model, batch_of(2))


def test_a_resumed_run_keeps_the_start(tmp_path: Path) -> None:
    first, second = SignalFile(tmp_path / "a.json"), SignalFile(tmp_path / "b.json")
    first.signals["start"] = {"gradient": [1.0]}
    second.load_state_dict(first.state_dict())
    assert second.signals == {"start": {"gradient": [1.0]}}
