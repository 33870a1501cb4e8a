"""U-Net in every dimension, on every stem; its convolution of an upsampled map."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from densekit.heads import UNet
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
        3,
        "half",
        {"skip_downsampling": [1, 0, 0]},
        depth=2,
        decoder_channels=(8, 8),
        deep_supervision=True,
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


@pytest.mark.parametrize("sides", [(64, 96), (35, 42)])
def test_block_equals_upsampling_and_joining(sides: tuple[int, int]) -> None:
    network = resnet_unet(2, "imagenet", {}, depth=2, decoder_channels=(8, 8)).double()
    block: Any = network.heads["segmentation"].decoder["blocks"][0]  # type: ignore[index]
    x = torch.randn(2, 64, *(-(-side // 4) for side in sides), dtype=torch.float64)
    skip = torch.randn(2, 64, *(-(-side // 2) for side in sides), dtype=torch.float64)
    joined = torch.cat([F.interpolate(x, skip.shape[2:], mode="nearest"), skip], 1)
    expected = F.relu(block.conv2(F.relu(block.conv1(joined))))
    found = block(x, skip, skip.shape[2:])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


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
