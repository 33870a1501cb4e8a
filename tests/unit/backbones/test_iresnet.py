"""The iResNet has arcface_torch's tensors, and computes with them what arcface_torch does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.backbones import IResNet
from densekit.testing import check_backbone
from densekit.types import FeatureSpec

State = dict[str, Tensor]
Shapes = Iterator[tuple[str, tuple[int, ...]]]
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}


def norm(name: str, channels: int) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def body(depth: int) -> Shapes:
    """Names and shapes of arcface_torch's tensors up to the last stage, in their order."""
    yield "conv1.weight", (64, 3, 3, 3)
    yield from norm("bn1", 64)
    yield "prelu.weight", (64,)
    before = 64
    for number, count in enumerate(BLOCKS[depth], 1):
        width = 32 * 2**number
        for index in range(count):
            block = f"layer{number}.{index}"
            yield from norm(f"{block}.bn1", before)
            yield f"{block}.conv1.weight", (width, before, 3, 3)
            yield from norm(f"{block}.bn2", width)
            yield f"{block}.prelu.weight", (width,)
            yield f"{block}.conv2.weight", (width, width, 3, 3)
            yield from norm(f"{block}.bn3", width)
            if index == 0:  # for the stride, in the first stage too
                yield f"{block}.downsample.0.weight", (width, before, 1, 1)
                yield from norm(f"{block}.downsample.1", width)
            before = width


def head() -> Shapes:
    """What stands behind: for faces of 112 pixels and embeddings of 512."""
    yield from norm("bn2", 512)
    yield "fc.weight", (512, 512 * 7 * 7)
    yield "fc.bias", (512,)
    yield from norm("features", 512)


def filled(shapes: Shapes) -> State:
    generator = torch.Generator().manual_seed(1)
    state: State = {}
    for key, shape in shapes:
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(5)
        elif len(shape) == 1:
            state[key] = torch.rand(shape, generator=generator) * 0.5 + 0.5
        else:
            state[key] = torch.randn(shape, generator=generator) * 0.05
    return state


def reference(state: State, image: Tensor) -> list[Tensor]:
    """Stem and stages by functions alone."""

    def bn(x: Tensor, name: str) -> Tensor:
        vectors = [state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *vectors, eps=1e-5)

    x = F.conv2d(image, state["conv1.weight"], padding=1)
    x = F.prelu(bn(x, "bn1"), state["prelu.weight"])
    levels = [x]
    for stage in (1, 2, 3, 4):
        for index in range(2):
            block, stride = f"layer{stage}.{index}", 2 - index
            y = F.conv2d(bn(x, f"{block}.bn1"), state[f"{block}.conv1.weight"], padding=1)
            y = F.prelu(bn(y, f"{block}.bn2"), state[f"{block}.prelu.weight"])
            y = F.conv2d(y, state[f"{block}.conv2.weight"], stride=stride, padding=1)
            if index == 0:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2)
                x = bn(x, f"{block}.downsample.1")
            x = bn(y, f"{block}.bn3") + x
        levels.append(x)
    return levels


@pytest.mark.parametrize("depth", BLOCKS)
def test_names_and_shapes_are_arcface_torchs(depth: int) -> None:
    with torch.device("meta"):
        state = IResNet(depth).state_dict()
    assert [(key, tuple(value.shape)) for key, value in state.items()] == list(body(depth))


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_equal_features(norm: str) -> None:
    state = {key: value.double() for key, value in filled(body(18)).items()}
    network = IResNet(18, norm=norm).double().eval()
    network.load_state_dict(state)
    image = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    with torch.no_grad():
        found = list(network(image).values())[1:]
    for ours, theirs in zip(found, reference(state, image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_levels() -> None:
    with torch.device("meta"):
        network = IResNet(18)
    assert network.features["c1"] == FeatureSpec(64, (1, 1))
    assert network.features["c2"] == FeatureSpec(64, (2, 2))
    assert network.features["c5"] == FeatureSpec(512, (16, 16))
    assert network(torch.empty(1, 3, 112, 112, device="meta"))["c5"].shape == (1, 512, 7, 7)


@pytest.mark.parametrize(
    "settings",
    [
        {"in_channels": 1, "freeze_stages": 2},
        {"drop_path": 0.2, "activation_checkpointing": True},
        {"norm": "frozen", "freeze_stages": 1},
    ],
    ids=str,
)
def test_contract(settings: dict[str, Any]) -> None:
    check_backbone(IResNet(18, **settings), 32)


def test_weights_of_arcface_torch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    state = filled(body(18)) | filled(head())
    torch.save(state, tmp_path / "backbone.pth")
    network = IResNet(18, weights=tmp_path / "backbone.pth")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert "left out: bn2.weight" in caplog.text
    with pytest.raises(ValueError, match="missing in the file: layer1.2.bn1.weight"):
        IResNet(34, weights=tmp_path / "backbone.pth")
