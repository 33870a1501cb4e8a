"""U-Net in every dimension, on every stem; its convolution of an upsampled map."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from densekit.heads import UNet
from densekit.heads.segmentation.fused import CONV, upsampled_conv
from densekit.types import FeatureSpec
from tests.unit.heads.segmentation_cases import batch, resnet_unet, without_gradient

SIDES: dict[int, tuple[int, ...]] = {1: (75,), 2: (35, 42), 3: (17, 20, 19)}
WIDTHS = (8, 8, 8, 8, 8)


@pytest.mark.parametrize("stem", ["imagenet", "half", "full"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_dimension_and_stem(dims: int, stem: str) -> None:
    # Two levels in volumes: enough for every kind of block, and quick.
    depth = 2 if dims == 3 else 5
    channels = WIDTHS[: depth - (stem == "full")]
    network = resnet_unet(dims, stem, {}, depth=depth, decoder_channels=channels)
    data = batch(SIDES[dims], num_classes=2, channels=1)
    torch.stack(list(network.loss(data).values())).sum().backward()
    assert without_gradient(network) == []
    logits = network(data["image"], data["size"])["segmentation"]["logits"]
    assert logits.shape == (2, 2, *SIDES[dims])


def test_full_stem_needs_no_block_beyond_c1() -> None:
    head: Any = resnet_unet(2, "full", {}).heads["segmentation"]
    assert head.joined == ["c4", "c3", "c2", "c1"]
    assert [block.conv2[0].out_channels for block in head.decoder["blocks"]] == [128, 64, 32, 16]


def test_strides_that_differ_between_axes() -> None:
    specs = {
        "c0": FeatureSpec(1, (1, 1, 1)),
        "c1": FeatureSpec(4, (1, 2, 2)),
        "c2": FeatureSpec(6, (2, 4, 4)),
        "c3": FeatureSpec(8, (2, 8, 8)),
    }
    head = UNet(specs, 2, depth=3, decoder_channels=(8, 8, 8), norm="instance")
    sides = (7, 24, 32)
    features = {
        name: torch.randn(
            1, spec.channels, *(-(-n // step) for n, step in zip(sides, spec.stride, strict=True))
        )
        for name, spec in specs.items()
    }
    assert head.joined == ["c2", "c1", "c0"]
    assert head(features, torch.tensor([sides]))["logits"].shape == (1, 2, *sides)


def test_a_resnet_that_holds_an_axis() -> None:
    network = resnet_unet(
        3, "half", {"hold": [1, 0, 0]}, depth=2, decoder_channels=(8, 8), deep_supervision=True
    )
    data = batch((6, 24, 20), num_classes=2, channels=1)
    torch.stack(list(network.loss(data).values())).sum().backward()
    assert without_gradient(network) == []


def test_names_and_shapes_are_smps() -> None:
    theirs = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2).state_dict()
    expected = {
        key.replace("encoder.", "backbone.")
        if key.startswith("encoder.")
        else f"heads.segmentation.{key}": value.shape
        for key, value in theirs.items()
    }
    ours = resnet_unet(2, "imagenet", {}).state_dict()
    assert {key: value.shape for key, value in ours.items()} == expected


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "1d": ((5,), (10,)),
    "2d": ((4, 5), (8, 10)),
    "2d_one_axis": ((4, 5), (4, 10)),
    "2d_same": ((4, 5), (4, 5)),
    "2d_odd": ((4, 5), (7, 9)),
    "3d": ((2, 3, 4), (4, 6, 8)),
    "3d_anisotropic": ((3, 3, 4), (3, 6, 8)),
    "one_pixel": ((1, 1), (2, 2)),
}


@pytest.mark.parametrize("skip_channels", [0, 3])
@pytest.mark.parametrize("case", CASES)
def test_fused_convolution_equals_upsampling_and_joining(case: str, skip_channels: int) -> None:
    coarse, fine = CASES[case]
    kind: dict[str, Any] = {"dtype": torch.float64, "requires_grad": True}
    x = torch.randn(2, 4, *coarse, **kind)
    skip = torch.randn(2, skip_channels, *fine, **kind) if skip_channels else None
    weight = torch.randn(5, 4 + skip_channels, *[3] * len(fine), **kind)
    up = F.interpolate(x, fine, mode="nearest")
    joined = up if skip is None else torch.cat([up, skip], 1)
    expected = CONV[len(fine)](joined, weight, padding=1)
    found = upsampled_conv(x, skip, weight, fine)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    inputs = [x, weight] if skip is None else [x, weight, skip]
    direction = torch.randn_like(expected)
    for own, other in zip(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


def test_a_decoder_that_ends_before_the_image() -> None:
    network = resnet_unet(2, "imagenet", {}, depth=4, finest=1)
    head: Any = network.heads["segmentation"]
    assert head.joined == ["c3", "c2", "c1"]
    assert [block.conv2[0].out_channels for block in head.decoder["blocks"]] == [128, 64, 32]
    data = batch((35, 42), num_classes=2, channels=1)
    torch.stack(list(network.loss(data).values())).sum().backward()
    assert without_gradient(network) == []
    logits = network(data["image"], data["size"])["segmentation"]["logits"]
    assert logits.shape == (2, 2, 35, 42)
