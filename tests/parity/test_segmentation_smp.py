"""Same weights, same pictures: smp's models and ours give the same logits, losses and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.heads import DeepLabV3Plus, SmpHead, UNet
from densekit.interop import from_smp
from densekit.model import DenseModel

pytestmark = pytest.mark.parity

CLASSES = 4
PLAIN: dict[str, tuple[Any, dict[str, Any]]] = {
    "unet": (smp.Unet, {}),
    "unet_depth3": (smp.Unet, {"encoder_depth": 3, "decoder_channels": (48, 32, 16)}),
    "unet_scse": (smp.Unet, {"decoder_attention_type": "scse"}),
    "unet_bilinear": (smp.Unet, {"decoder_interpolation": "bilinear"}),
    "unet_no_norm": (smp.Unet, {"decoder_use_norm": "identity"}),
    "unetplusplus": (smp.UnetPlusPlus, {"decoder_channels": (64, 48, 32, 24, 16)}),
    "manet": (smp.MAnet, {"decoder_pab_channels": 32}),
    "linknet": (smp.Linknet, {}),
    "fpn": (smp.FPN, {"decoder_merge_policy": "cat"}),
    "pspnet": (smp.PSPNet, {"psp_out_channels": 64}),
    "pan": (smp.PAN, {}),
    "upernet": (smp.UPerNet, {"decoder_channels": 64}),
    "segformer": (smp.Segformer, {"decoder_segmentation_channels": 64}),
    "deeplabv3": (smp.DeepLabV3, {"decoder_atrous_rates": (2, 4, 6)}),
    "deeplabv3plus": (smp.DeepLabV3Plus, {"decoder_channels": 64}),
    "deeplabv3plus_stride8": (smp.DeepLabV3Plus, {"encoder_output_stride": 8}),
    "deeplabv3plus_dense": (smp.DeepLabV3Plus, {"decoder_aspp_separable": False}),
}


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Statistics and affine terms as after training; a fresh norm would hide a mix-up."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape  # type: ignore[union-attr]
            module.running_mean.copy_(torch.randn(shape, generator=generator) / 5)  # type: ignore[union-attr]
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.8)  # type: ignore[union-attr]
            module.weight.copy_(torch.rand(shape, generator=generator) / 2 + 0.5)
            module.bias.copy_(torch.randn(shape, generator=generator) / 5)


def build(name: str, encoder: str = "resnet18", **settings: Any) -> nn.Module:
    make, own = PLAIN[name]
    model: nn.Module = make(encoder, encoder_weights=None, classes=CLASSES, **own, **settings)
    randomise(model)
    return model.eval()


def padded(image: Tensor, divisor: int) -> Tensor:
    height, width = image.shape[2:]
    return F.pad(image, (0, -width % divisor, 0, -height % divisor))


def logits(model: DenseModel, image: Tensor) -> Tensor:
    size = torch.tensor([image.shape[2:]] * len(image))
    return model(image, size)["segmentation"]["logits"]


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the size of the logits."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_logits_are_equal_on_sides_that_do_not_divide(name: str) -> None:
    theirs = build(name)
    ours = from_smp(theirs)
    image = torch.randn(2, 3, 161, 131)
    if isinstance(ours.heads["segmentation"], DeepLabV3Plus):
        image = padded(image, 32)  # ours takes any sides, smp's only these
    with torch.no_grad():
        # smp's Unet takes any sides; the others refuse these, and see the zeros that ours adds.
        expected = theirs(
            image if name.startswith("unet_") or name == "unet" else padded(image, 32)
        )
        found = logits(ours, image)
    if expected.shape != found.shape:  # a smaller divisor than 32
        with torch.no_grad():
            expected = theirs(padded(image, ours.size_divisor))
    assert_equal(found, expected)


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_other_encoders(name: str, encoder: str) -> None:
    theirs = build(name, encoder)
    ours = from_smp(theirs)
    image = torch.randn(1, 3, 65, 97) if name == "unet" else torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        assert_equal(logits(ours, image), theirs(image))


def test_ours_where_there_is_one_of_ours() -> None:
    expected = {"unet_depth3": UNet, "deeplabv3plus": DeepLabV3Plus, "unet_scse": SmpHead}
    kinds = {name: type(from_smp(build(name)).heads["segmentation"]) for name in expected}
    assert kinds == expected


def test_channels_and_one_class() -> None:
    theirs = smp.Unet("resnet18", encoder_weights=None, in_channels=2, classes=1).eval()
    image = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        assert_equal(logits(from_smp(theirs), image), theirs(image))


@pytest.mark.parametrize("sides", [(64, 96), (67, 97)], ids=["even", "odd"])
def test_losses_and_gradients_are_equal(sides: tuple[int, int]) -> None:
    theirs = build("unet").double().train()
    ours = from_smp(theirs)
    assert ours.training
    image = torch.randn(2, 3, *sides, dtype=torch.float64)
    mask = torch.randint(0, CLASSES, (2, *sides), dtype=torch.uint8)
    mask[0, :9] = 255
    expected = F.cross_entropy(theirs(image), mask.long(), ignore_index=255)
    expected.backward()
    batch: Any = {"image": image, "size": torch.tensor([sides] * 2), "mask": mask}
    found = ours.loss(batch)["segmentation/ce"]
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        own = (
            f"backbone.{name[8:]}" if name.startswith("encoder.") else f"heads.segmentation.{name}"
        )
        scale = parameter.grad.abs().max()  # type: ignore[union-attr]
        difference = (gradients[own].grad - parameter.grad).abs().max()  # type: ignore[operator]
        assert difference <= 1e-9 * max(float(scale), 1e-3), own


def test_preprocessing_takes_images_as_they_are_stored() -> None:
    theirs = build("unet")
    parameters = {
        "input_space": "RGB",
        "input_range": [0, 1],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    ours = from_smp(theirs, preprocessing=parameters)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(parameters[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        assert_equal(logits(ours, image), theirs((image / 255 - mean) / std))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "sigmoid"}, "expected activation=None, .* got Sigmoid"),
        ({"aux_params": {"classes": 2}}, "aux_params"),
        ({"decoder_use_norm": {"type": "batchnorm", "eps": 1e-3}}, "decoder_use_norm"),
        ({"decoder_use_norm": {"type": "instancenorm", "affine": True}}, "decoder_use_norm"),
    ],
)
def test_settings_without_a_counterpart(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_smp(build("unet", **settings))


def test_another_upsampling_is_refused() -> None:
    with pytest.raises(ValueError, match="got masks of 2 times its size"):
        from_smp(build("fpn", upsampling=8))


def test_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a ResNet as encoder .* got MobileNetV2"):
        from_smp(smp.Unet("mobilenet_v2", encoder_weights=None))
    with pytest.raises(
        TypeError, match="expected a model of segmentation_models_pytorch, got Linear"
    ):
        from_smp(nn.Linear(1, 1))
