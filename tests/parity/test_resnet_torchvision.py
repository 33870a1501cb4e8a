"""The same weights in torchvision's ResNet and ours: equal keys, features, gradients."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from densekit import backbones
from densekit.backbones import ResNet

pytestmark = pytest.mark.parity

NAMES = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
LEVELS = {"relu": "c1", "layer1": "c2", "layer2": "c3", "layer3": "c4", "layer4": "c5"}


def randomised(network: nn.Module) -> nn.Module:
    """Statistics and affines as if trained: otherwise every norm would be nearly the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            for buffer, low, high in (
                (module.weight, 0.3, 0.9),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                buffer.data.uniform_(low, high, generator=generator)
    return network


def body(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}


def reference_features(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    features = IntermediateLayerGetter(network, LEVELS)(x)
    return {level: features[level] for level in LEVELS.values()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    for level, expected in theirs.items():
        scale = expected.abs().max().clamp(min=1)
        torch.testing.assert_close(ours[level] / scale, expected / scale, atol=atol, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_equal_features(name: str, training: bool) -> None:
    theirs = randomised(getattr(torchvision.models, name)()).train(training)
    ours = getattr(backbones, name)()
    assert list(ours.state_dict()) == list(body(theirs))
    ours.load_state_dict(body(theirs))
    ours.train(training)
    x = torch.randn(2, 3, 75, 97)
    with torch.no_grad():
        assert_equal(ours(x), reference_features(theirs, x), atol=1e-5)
    for key, value in body(theirs).items():  # the running statistics, after a training step
        torch.testing.assert_close(ours.state_dict()[key], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "resnet34",
        "resnet101",
        "resnet152",
        "resnext101_32x8d",
        "resnext101_64x4d",
        "wide_resnet101_2",
    ],
)
def test_equal_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = getattr(backbones, name)(), getattr(torchvision.models, name)()
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in body(theirs).items()}
    assert list(shapes) == list(body(theirs))


@pytest.mark.parametrize(
    ("output_stride", "dilated"), [(16, [False, False, True]), (8, [False, True, True])]
)
def test_equal_with_dilation(output_stride: int, dilated: list[bool]) -> None:
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=dilated)
    theirs = randomised(theirs).eval()
    ours = ResNet(50, output_stride=output_stride).eval()
    ours.load_state_dict(body(theirs))
    x = torch.randn(1, 3, 75, 97)
    with torch.no_grad():
        assert_equal(ours(x), reference_features(theirs, x), atol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_equal_frozen_norm_and_gradients(eps: float) -> None:
    """In float64, where folding the norm into the convolution must change nothing but rounding."""
    norm = lambda channels: FrozenBatchNorm2d(channels, eps=eps)  # noqa: E731
    theirs = randomised(torchvision.models.resnet50(norm_layer=norm)).double().train()
    ours = ResNet(50, norm="frozen", norm_eps=eps)
    assert list(ours.state_dict()) == list(body(theirs))
    ours.double().load_state_dict(body(theirs))
    x = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    ours_c5, theirs_c5 = ours(x)["c5"], reference_features(theirs, x)["c5"]
    torch.testing.assert_close(ours_c5, theirs_c5, atol=1e-10, rtol=1e-10)
    probe = torch.randn_like(ours_c5)
    (ours_c5 * probe).sum().backward()
    (theirs_c5 * probe).sum().backward()
    expected = {k: p.grad for k, p in theirs.named_parameters() if not k.startswith("fc.")}
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], atol=1e-9, rtol=1e-9)
