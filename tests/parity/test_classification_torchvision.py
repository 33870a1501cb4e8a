"""torchvision's and timm's classifiers, converted, give the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from densekit import Predictor
from densekit.interop import from_timm, from_torchvision
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.parity

QUICK = ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]
LARGE = ["resnet101", "resnet152", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"]
SQUARE, ODD = (224, 224), (161, 203)


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """Statistics and scales of batch norms that are not those of a fresh model."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.7, 1.4)
            module.weight.uniform_(0.5, 1.1)
            module.bias.uniform_(-0.2, 0.2)
    return model.eval()


def normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (image.float() - mean) / std


def check(theirs: nn.Module, ours: Any, sides: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, 3, *sides), dtype=torch.uint8)
    size = torch.tensor([sides] * 2)
    with torch.no_grad():
        expected = theirs(normalised(image))
        found = ours(image, size)["classification"]["logits"]
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        *((name, sides) for name in QUICK for sides in (SQUARE, ODD)),
        *(pytest.param(name, ODD, marks=pytest.mark.slow) for name in LARGE),
    ],
)
def test_torchvision(name: str, sides: tuple[int, int]) -> None:
    theirs = shaken(torchvision.models.get_model(name, num_classes=20))
    check(theirs, from_torchvision(theirs), sides)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_timm(name: str) -> None:
    theirs = shaken(timm.create_model(name, num_classes=20))
    check(theirs, from_timm(theirs), ODD)


def test_the_state_dict_of_both_libraries_is_one() -> None:
    theirs = timm.create_model("resnet18")
    same = torchvision.models.resnet18()
    same.load_state_dict(theirs.state_dict())
    first, second = from_timm(theirs).state_dict(), from_torchvision(same).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_dilated_and_double_precision() -> None:
    dilated = torchvision.models.resnet50(
        num_classes=7, replace_stride_with_dilation=[False, True, True]
    )
    theirs = shaken(dilated).double()
    ours = from_torchvision(theirs)
    image = torch.randint(0, 256, (1, 3, 97, 65), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1).double() for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = theirs((image.double() - mean) / std)
        found = ours(image, torch.tensor([[97, 65]]))["classification"]["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_names_and_results() -> None:
    theirs = shaken(torchvision.models.resnet18(num_classes=3))
    ours = from_torchvision(theirs, ["a", "b", "c"])
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    (result,) = Predictor(ours).head("classification")([image])
    with torch.no_grad():
        expected = theirs(normalised(image[None]))[0].softmax(0)
    torch.testing.assert_close(torch.tensor(result["probabilities"]), expected)
    assert result["names"] == ["abc"[int(expected.argmax())]]
    with pytest.raises(ValueError, match=r"names: expected one per class \(3\), got 2"):
        from_torchvision(theirs, ["a", "b"])


@pytest.mark.parametrize("mode", [True, False])
def test_training_mode_is_kept(mode: bool) -> None:
    assert from_torchvision(torchvision.models.resnet18().train(mode)).training is mode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18d", "from_timm: expected torchvision's architecture, got another stem"),
        ("seresnet50", "architecture, got another se"),
        ("resnetblur50", "architecture, got another max-pool, aa"),
        ("resnet26", "from_timm: expected a ResNet of .* got a backbone of"),
    ],
)
def test_other_resnets_of_timm_are_refused(name: str, message: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(ValueError, match=message):
        from_timm(model)


def test_other_architectures_are_refused_by_name() -> None:
    with torch.device("meta"):
        other = timm.create_model("mobilenetv3_small_050")
        vgg = torchvision.models.vgg11()
    with pytest.raises(TypeError, match="from_timm: expected a ResNet .* got MobileNetV3"):
        from_timm(other)
    with pytest.raises(TypeError, match="from_torchvision: expected torchvision's .* got VGG"):
        from_torchvision(vgg)
