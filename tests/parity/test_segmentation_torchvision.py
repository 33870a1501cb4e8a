"""Same weights, same pictures: torchvision's FCN and DeepLabV3 and ours are equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import segmentation

from densekit.heads import FCN, DeepLabV3
from densekit.interop import from_torchvision
from tests.parity.test_segmentation_smp import assert_equal, randomise

pytestmark = pytest.mark.parity

CLASSES = 5
MODELS = ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"]


def build(name: str, aux: bool = True) -> nn.Module:
    model: nn.Module = getattr(segmentation, name)(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=aux
    )
    randomise(model)
    return model.eval()


def picture(count: int = 1, sides: tuple[int, int] = (65, 97)) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, *sides), torch.tensor([sides] * count)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal_on_odd_sides(name: str) -> None:
    theirs = build(name)
    ours = from_torchvision(theirs)
    assert type(ours.heads["segmentation"]) is (FCN if name.startswith("fcn") else DeepLabV3)
    image, size = picture()
    with torch.no_grad():
        expected = theirs(image)
        features = ours.features({"image": image, "size": size})
        main, aux = ours.heads["segmentation"].supervised(features)  # type: ignore[operator]
        assert_equal(ours(image, size)["segmentation"]["logits"], expected["out"])
    upsampled = F.interpolate(aux.logits, image.shape[2:], mode="bilinear", align_corners=False)
    assert_equal(upsampled, expected["aux"])
    assert (main.weight, aux.weight) == (1.0, 0.4)


def test_without_the_auxiliary_classifier() -> None:
    theirs = build("deeplabv3_resnet50", aux=False)
    ours = from_torchvision(theirs, names=["sky", "road", "tree", "car", "person"])
    image, size = picture(2, (33, 41))
    with torch.no_grad():
        assert_equal(ours(image, size)["segmentation"]["logits"], theirs(image)["out"])
    assert "c4" not in ours.heads["segmentation"].reads
    assert ours.info["heads"]["segmentation"]["names"][1] == "road"


def test_losses_and_gradients_are_equal() -> None:
    theirs = build("fcn_resnet50").double().train()
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours = from_torchvision(theirs)
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    image, size = picture(2, (9, 17))
    image = image.double()
    mask = torch.randint(0, CLASSES, (2, 9, 17), dtype=torch.uint8)
    mask[:, :2] = 255
    outputs = theirs(image)
    losses = [F.cross_entropy(outputs[key], mask.long(), ignore_index=255) for key in outputs]
    expected = losses[0] + 0.4 * losses[1]
    expected.backward()
    batch: Any = {"image": image, "size": size, "mask": mask}
    found = torch.stack(list(ours.loss(batch).values())).sum()
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        own = name if name.startswith("backbone.") else f"heads.segmentation.{name}"
        torch.testing.assert_close(gradients[own].grad, parameter.grad, rtol=1e-6, atol=1e-9)


def test_what_is_not_accepted() -> None:
    theirs = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(TypeError, match="expected a ResNet as backbone"):
        from_torchvision(theirs)
    with pytest.raises(TypeError, match="FCOS, FCN, DeepLabV3 or ResNet, got Linear"):
        from_torchvision(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"names: expected one per class \(5\), got 2"):
        from_torchvision(build("fcn_resnet50"), names=["a", "b"])


def test_float64_weights_do_not_pass_through_float32() -> None:
    theirs = build("fcn_resnet50").double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter /= 3  # no float32 number
    parts = from_torchvision(theirs).state_dict()
    assert torch.equal(parts["backbone.conv1.weight"], theirs.backbone.conv1.weight)
