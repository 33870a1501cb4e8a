"""The CIFAR family: shapes, parameters, and the published weights, if they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.backbones import CifarResNet
from densekit.testing import check_backbone, check_backbone_graphs
from densekit.types import FeatureSpec

State = dict[str, Tensor]
FILES = {
    20: "resnet20-12fca82f.th",
    32: "resnet32-d509ac18.th",
    44: "resnet44-014dd654.th",
    56: "resnet56-4bfd9763.th",
}
MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
"""Parameters with the classifier, the paper's table 6."""


def reference(state: State, image: Tensor) -> list[Tensor]:
    """Stem and stages by functions alone, on the tensors of a file."""

    def conv_norm(x: Tensor, number: int, prefix: str, stride: int = 1) -> Tensor:
        x = F.conv2d(x, state[f"{prefix}conv{number}.weight"], stride=stride, padding=1)
        norm = f"{prefix}bn{number}."
        mean, var = state[f"{norm}running_mean"], state[f"{norm}running_var"]
        return F.batch_norm(x, mean, var, state[f"{norm}weight"], state[f"{norm}bias"])

    x = F.relu(conv_norm(image, 1, ""))
    levels = [x]
    for stage in (1, 2, 3):
        for block in range(sum(f"layer{stage}.{n}.conv1.weight" in state for n in range(99))):
            stride = 2 if stage > 1 and block == 0 else 1
            prefix = f"layer{stage}.{block}."
            y = conv_norm(F.relu(conv_norm(x, 1, prefix, stride)), 2, prefix)
            shortcut = x
            if stride == 2:
                zeros = torch.zeros_like(y[:, : x.shape[1] // 2])
                shortcut = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
            x = F.relu(y + shortcut)
        levels.append(x)
    return levels


@pytest.mark.real
@pytest.mark.parametrize("depth", FILES)
def test_published_weights(
    depth: int, folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = folder("weights") / FILES[depth]
    network = CifarResNet(depth, weights=path).double().eval()
    assert "left out: linear.weight, linear.bias" in caplog.text
    content = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {key.removeprefix("module."): value.double() for key, value in content.items()}
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):  # files of 2018 have none
            assert torch.equal(value, state.pop(key)), key
    assert sorted(state) == ["linear.bias", "linear.weight"]

    state = {key.removeprefix("module."): value.double() for key, value in content.items()}
    image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        found = list(network(image).values())[1:]
    for ours, theirs in zip(found, reference(state, image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("depth", MILLIONS)
def test_parameters_are_the_published_ones(depth: int) -> None:
    with torch.device("meta"):
        network, plain = CifarResNet(depth), CifarResNet(depth, residual=False)
    count = sum(parameter.numel() for parameter in network.parameters())
    digits = 2 if depth < 100 else 1
    assert round((count + 64 * 10 + 10) / 1e6, digits) == MILLIONS[depth]
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in plain.state_dict().items()}
    convolutions = [key for key in shapes if "conv" in key]
    assert len(convolutions) == depth - 1


def test_levels() -> None:
    assert CifarResNet(8).features == {
        "c0": FeatureSpec(3, (1, 1)),
        "c1": FeatureSpec(16, (1, 1)),
        "c2": FeatureSpec(16, (1, 1)),
        "c3": FeatureSpec(32, (2, 2)),
        "c4": FeatureSpec(64, (4, 4)),
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 20, "in_channels": 1},
        {"depth": 8, "residual": False, "norm": "group"},
        {"depth": 14, "freeze_stages": 2, "drop_path": 0.2, "activation_checkpointing": True},
        {"depth": 8, "norm": "frozen", "freeze_stages": 4, "in_channels": 4},
    ],
    ids=str,
)
def test_contract(settings: dict[str, Any]) -> None:
    check_backbone(CifarResNet(**settings), 32)


def test_one_graph() -> None:
    network = CifarResNet(8, in_channels=1, drop_path=0.5, activation_checkpointing=True)
    check_backbone_graphs(network, 32)


def test_a_plain_net_answers_otherwise() -> None:
    network = CifarResNet(8).eval()
    plain = CifarResNet(8, residual=False).eval()
    plain.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 32, 32)
    assert not torch.equal(plain(image)["c2"], network(image)["c2"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 18}, r"depth: expected 6n \+ 2, .* got 18"),
        ({"depth": 2}, "depth: expected 6n .* got 2"),
        ({"freeze_stages": 5}, "freeze_stages: expected 0 to 4, got 5"),
        ({"drop_path": 0.1, "residual": False}, "drop_path: expected 0 with residual=False"),
        ({"weights": "IMAGENET1K_V1"}, "torchvision has no weights"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CifarResNet(**settings)
