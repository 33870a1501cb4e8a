"""Stochastic depth, activation checkpointing and plain twins: the settings of all stages."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.backbones.blocks import BasicBlock
from densekit.layers import Layers
from densekit.testing import check_backbone

SMALL: dict[str, Any] = {"depth": 18, "width": 16}
Step = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]


def step(network: nn.Module, image: Tensor, compiled: bool = False) -> Step:
    """c5, gradients and state after one backward of a copy."""
    network = copy.deepcopy(network).train()
    run = torch.compile(network, fullgraph=True, backend="aot_eager") if compiled else network
    torch.manual_seed(7)
    c5 = run(image)["c5"]
    c5.square().mean().backward()
    gradients = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    return c5.detach(), gradients, network.state_dict()


def assert_same(found: Step, expected: Step) -> None:
    assert torch.equal(found[0], expected[0])
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), key


def twin(network: nn.Module, **settings: Any) -> ResNet:
    other = ResNet(**settings)
    other.load_state_dict(network.state_dict())
    return other


def test_drop_rate_grows_linearly() -> None:
    network = ResNet(34, width=16, drop_path=0.32)
    stages = [getattr(network, f"layer{number}") for number in range(1, 5)]
    rates = [block.drop_path for stage in stages for block in stage]
    assert rates == pytest.approx([0.02 * number for number in range(1, 17)])


def test_dropped_branches_are_timms() -> None:
    block = BasicBlock(Layers(norm="frozen"), 8, 8, 8, drop_path=0.3).train()
    x = torch.randn(2000, 8, 3, 3)
    with torch.no_grad():
        branch = block.conv2(F.relu(block.conv1(x)))
        torch.manual_seed(3)
        found = block(x)
        torch.manual_seed(3)
        expected = F.relu(x + DropPath(0.3).train()(branch))
        torch.testing.assert_close(found, expected)
        dropped = (found == F.relu(x)).flatten(1).all(1).float().mean().item()
        assert dropped == pytest.approx(0.3, abs=0.04)  # four standard deviations
        torch.testing.assert_close(block.eval()(x), F.relu(x + branch))


def test_frozen_stages_drop_nothing() -> None:
    network = ResNet(**SMALL, drop_path=0.9, freeze_stages=5, norm="frozen").train()
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(image)["c5"], network(image)["c5"])


@pytest.mark.parametrize(
    ("freeze_stages", "compiled"), [(0, False), (2, False), (2, True)], ids=str
)
def test_checkpointing_changes_no_bit(freeze_stages: int, compiled: bool) -> None:
    settings = {**SMALL, "drop_path": 0.5, "freeze_stages": freeze_stages}
    kept = ResNet(**settings)
    again = twin(kept, **settings, activation_checkpointing=True)
    image = torch.randn(4, 3, 32, 32)
    expected = step(kept, image)
    assert expected[2]["layer4.1.bn2.num_batches_tracked"] == 1
    assert_same(step(again, image, compiled), expected)


def test_checkpointing_keeps_less() -> None:
    kept: dict[bool, int] = {}
    for recompute in (False, True):
        network = ResNet(**SMALL, activation_checkpointing=recompute).train()
        own = {p.untyped_storage().data_ptr() for p in network.state_dict().values()}
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, own: set[int] = own, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features = network(torch.randn(2, 3, 64, 64))
        kept[recompute] = sum(sizes.values())
        del features
    assert kept[True] < 0.6 * kept[False]


def test_norms_get_their_buffers_back() -> None:
    """The second pass ends early, by an exception."""
    network = ResNet(**SMALL, activation_checkpointing=True).train()
    before = {key: value.data_ptr() for key, value in network.state_dict().items()}
    network(torch.randn(2, 3, 32, 32))["c5"].sum().backward()
    assert {key: value.data_ptr() for key, value in network.state_dict().items()} == before


def test_settings_of_training_leave_no_trace_in_export() -> None:
    settings: dict[str, Any] = {**SMALL, "drop_path": 0.5, "activation_checkpointing": True}
    network = ResNet(**settings).eval()
    image = torch.randn(2, 3, 32, 32)
    exported = torch.export.export(network, (image,))
    assert not any("bernoulli" in str(node.target) for node in exported.graph.nodes)
    expected = twin(network, **SMALL).eval()(image)["c5"]
    torch.testing.assert_close(exported.module()(image)["c5"], expected)


@pytest.mark.parametrize(
    "settings", [{"drop_path": 0.5, "activation_checkpointing": True}, {"residual": False}], ids=str
)
def test_contract(settings: dict[str, Any]) -> None:
    check_backbone(ResNet(**SMALL, **settings), 32)


@pytest.mark.parametrize("depth", [18, 50])
def test_plain_twin_lacks_shortcuts_alone(depth: int) -> None:
    with torch.device("meta"):
        plain, residual = ResNet(depth, residual=False), ResNet(depth)
    ours = {key: value.shape for key, value in plain.state_dict().items()}
    theirs = {key: value.shape for key, value in residual.state_dict().items()}
    assert ours == {key: value for key, value in theirs.items() if ".downsample." not in key}
    assert plain.features == residual.features


def test_plain_twin_is_a_chain_of_convolutions() -> None:
    network = ResNet(**SMALL, residual=False).eval()
    image = torch.randn(1, 3, 40, 40)
    features = network(image)
    x = F.max_pool2d(features["c1"], 3, 2, 1)
    for number, level in enumerate(("c2", "c3", "c4", "c5"), 1):
        for block in getattr(network, f"layer{number}"):
            x = F.relu(block.bn1(block.conv1(x)))
            x = F.relu(block.bn2(block.conv2(x)))
        torch.testing.assert_close(features[level], x)


def test_plain_twin_takes_plain_weights_only(tmp_path: Path) -> None:
    plain, residual = tmp_path / "plain.pth", tmp_path / "residual.pth"
    network = ResNet(**SMALL, residual=False)
    torch.save(network.state_dict(), plain)
    torch.save(ResNet(**SMALL).state_dict(), residual)
    again = ResNet(**SMALL, residual=False, weights=plain)
    assert torch.equal(again.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
    with pytest.raises(ValueError, match=r"got a network with shortcuts in .*residual\.pth"):
        ResNet(**SMALL, residual=False, weights=residual)
    with pytest.raises(ValueError, match=r"missing in the file: layer2\.0\.downsample"):
        ResNet(**SMALL, weights=plain)
    with pytest.raises(ValueError, match="torchvision has no weights for these settings"):
        ResNet(18, residual=False, weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop_path": 1.0}, r"drop_path: expected a number in \[0, 1\), got 1\.0"),
        ({"drop_path": -0.1}, r"drop_path: expected a number in \[0, 1\), got -0\.1"),
        ({"drop_path": 0.1, "residual": False}, "no residual branch, got 0.1 and False"),
        ({"zero_init_residual": True, "residual": False}, "no residual branch, got 0.0 and True"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        ResNet(18, **settings)
