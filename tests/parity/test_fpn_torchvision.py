"""The same weights in torchvision's feature pyramid and ours: equal levels and gradients."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from densekit.necks import FPN
from densekit.types import FeatureSpec

pytestmark = pytest.mark.parity

CHANNELS = {"c2": 8, "c3": 16, "c4": 24, "c5": 40}
SPECS = {
    level: FeatureSpec(channels, (4 * 2**number,) * 2)
    for number, (level, channels) in enumerate(CHANNELS.items())
}
SIZES = [(25, 19), (13, 10), (7, 5), (4, 3)]
OUT = 12


def our_name(key: str) -> str:
    key = re.sub(r"^inner_blocks\.(\d)", lambda m: f"lateral.c{int(m[1]) + 2}", key)
    key = re.sub(r"^layer_blocks\.(\d)", lambda m: f"output.p{int(m[1]) + 2}", key)
    return key.replace("extra_blocks.", "extra.")


def maps(dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        level: torch.randn(2, channels, *size, dtype=dtype)
        for (level, channels), size in zip(CHANNELS.items(), SIZES, strict=True)
    }


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize(
    ("extra", "reference", "levels"),
    [
        ("none", None, 4),
        ("pool", LastLevelMaxPool, 5),
        ("conv", partial(LastLevelP6P7, OUT, OUT), 6),
        ("conv_backbone", partial(LastLevelP6P7, CHANNELS["c5"], OUT), 6),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal(
    norm: str | None,
    extra: str,
    reference: type[ExtraFPNBlock] | None,
    levels: int,
    dtype: torch.dtype,
) -> None:
    theirs = FeaturePyramidNetwork(
        list(CHANNELS.values()),
        OUT,
        extra_blocks=None if reference is None else reference(),
        norm_layer=None if norm is None else nn.BatchNorm2d,
    )
    reads = [f"p{n}" for n in range(2, 2 + levels)]
    ours = FPN(SPECS, reads, out_channels=OUT, extra=extra, norm=norm)
    state = {our_name(key): value for key, value in theirs.state_dict().items()}
    assert set(ours.state_dict()) == set(state)
    ours.load_state_dict(state)
    ours.to(dtype)
    theirs.to(dtype)

    features = maps(dtype)
    got, expected = ours(features), list(theirs(features).values())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for level, value in zip(reads, expected, strict=True):
        torch.testing.assert_close(got[level], value, atol=tolerance, rtol=tolerance)

    sum(got[level].square().sum() for level in reads).backward()
    sum(value.square().sum() for value in expected).backward()
    gradients = {our_name(key): p.grad for key, p in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        scale = gradients[key].abs().max().clamp(min=1)
        torch.testing.assert_close(
            parameter.grad / scale, gradients[key] / scale, atol=tolerance, rtol=0
        )


def test_equal_initial_distribution() -> None:
    theirs = FeaturePyramidNetwork([256] * 4, 256)
    ours = FPN({level: FeatureSpec(256, spec.stride) for level, spec in SPECS.items()}, ["p2"])
    expected = theirs.layer_blocks[0][0].weight
    got = ours.output["p2"][0].weight
    torch.testing.assert_close(got.std(), expected.std(), rtol=0.01, atol=0)
    torch.testing.assert_close(got.abs().max(), expected.abs().max(), rtol=0.01, atol=0)
    assert not ours.output["p2"][0].bias.any()
