"""The pyramid builds what is read and no more, in any dimension, and says what it builds."""

from __future__ import annotations

import math
from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from densekit.backbones import ResNet
from densekit.necks import FPN
from densekit.types import FeatureSpec

CHANNELS = {"c0": 3, "c1": 4, "c2": 4, "c3": 6, "c4": 8, "c5": 10}
STRIDES = (1, 2, 4, 8, 16, 32)
EXTRAS = {"none": 4, "pool": 5, "conv": 6, "conv_backbone": 6, "conv_backbone_linear": 6}


def specs(spatial_dims: int = 2, strides: tuple[int, ...] = STRIDES) -> dict[str, FeatureSpec]:
    return {
        level: FeatureSpec(channels, (stride,) * spatial_dims)
        for (level, channels), stride in zip(CHANNELS.items(), strides, strict=True)
    }


def maps(features: dict[str, FeatureSpec], size: int = 70) -> dict[str, Tensor]:
    return {
        level: torch.randn(2, spec.channels, *[math.ceil(size / step) for step in spec.stride])
        for level, spec in features.items()
    }


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize("strides", [STRIDES, (1, 2, 4, 8, 16, 16), (1, 2, 4, 8, 8, 8)])
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("norm", [None, "group"])
def test_specs_are_the_shapes_of_a_forward(
    spatial_dims: int, strides: tuple[int, ...], extra: str, norm: str | None
) -> None:
    given = specs(spatial_dims, strides)
    pyramid = FPN(given, out_channels=8, extra=extra, norm=norm).specs
    assert list(pyramid) == [f"p{n}" for n in range(2, 2 + EXTRAS[extra])]
    neck = FPN(given, pyramid, out_channels=8, extra=extra, norm=norm)
    assert neck.features == {**given, **pyramid}
    features = maps(given)
    result = neck(features)
    assert list(result) == list(neck.features)
    assert all(result[level] is features[level] for level in given)
    for level, spec in pyramid.items():
        expected = [math.ceil(70 / step) for step in spec.stride]
        assert list(result[level].shape) == [2, spec.channels, *expected]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_selection_of_levels(extra: str) -> None:
    """Every parameter gets a gradient, whatever is read, and no level changes for it."""
    given = specs()
    features = maps(given)
    whole = FPN(given, FPN(given, extra=extra).specs, out_channels=8, extra=extra)
    everything = whole(features)
    names = list(whole.levels)
    selections = chain.from_iterable(combinations(names, n) for n in range(1, len(names) + 1))
    for reads in selections:
        neck = FPN(given, ["c2", *reads], out_channels=8, extra=extra)
        state = {key: whole.state_dict()[key] for key in neck.state_dict()}
        neck.load_state_dict(state)
        result = neck({level: features[level] for level in neck.reads})
        assert list(result) == [*neck.reads, *reads]
        assert all(torch.equal(result[level], everything[level]) for level in reads)
        # Each of the levels of the backbone it asks for is needed, and each of its parameters.
        sum(result[level].sum() for level in reads).backward()
        idle = [name for name, parameter in neck.named_parameters() if parameter.grad is None]
        assert not idle, (reads, idle)


@pytest.mark.parametrize("size", [64, 70])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_split_output_equals_the_convolved_sum(spatial_dims: int, size: int) -> None:
    given = specs(spatial_dims)
    neck = FPN(given, ["p2", "p3"], out_channels=8).double()
    assert neck.is_split
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)  # biases too
    features = {level: x.double() for level, x in maps(given, size).items()}
    found = neck(features)["p2"]
    neck.is_split = False
    expected = neck(features)["p2"]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(expected)
    parameters = list(neck.parameters())
    for own, other in zip(
        torch.autograd.grad(found, parameters, direction, allow_unused=True),
        torch.autograd.grad(expected, parameters, direction, allow_unused=True),
        strict=True,
    ):
        if other is not None:  # of the output of p3
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "norm", "reads", "split"),
    [
        (64, None, ["p2", "p3"], True),  # a basic ResNet
        (256, None, ["p2", "p3"], False),  # a bottleneck's c2 has as many channels as the pyramid
        (64, "batch", ["p2", "p3"], False),  # a norm stands between
        (64, None, ["p5"], False),  # nothing above
    ],
)
def test_only_what_gets_cheaper_is_split(
    channels: int, norm: str | None, reads: list[str], split: bool
) -> None:
    given = specs() | {"c2": FeatureSpec(channels, (4, 4))}
    assert FPN(given, reads, norm=norm).is_split is split


@pytest.mark.parametrize(
    ("reads", "extra", "needed", "divisor"),
    [
        (["p2", "p3", "p4", "p5", "p6"], "pool", ("c2", "c3", "c4", "c5"), 32),
        (["p2"], "pool", ("c2", "c3", "c4", "c5"), 32),
        (["p4"], "pool", ("c4", "c5"), 32),
        (["p6"], "pool", ("c5",), 32),
        (["p3", "p7"], "conv", ("c3", "c4", "c5"), 32),
        (["p7"], "conv_backbone", ("c5",), 32),
    ],
)
def test_reads_what_it_needs(
    reads: list[str], extra: str, needed: tuple[str, ...], divisor: int
) -> None:
    neck = FPN(specs(), reads, extra=extra)
    assert neck.reads == needed
    assert neck.size_divisor == divisor


def test_pool_makes_no_parameters_and_conv_only_those_read() -> None:
    assert not list(FPN(specs(), ["p6"], extra="pool").extra.parameters())
    assert list(FPN(specs(), ["p6"], extra="conv").extra) == ["p6"]


@pytest.mark.parametrize(("extra", "relu"), [("conv_backbone", 1), ("conv_backbone_linear", 0)])
def test_p7_takes_p6_with_or_without_relu(extra: str, relu: int) -> None:
    given = specs()
    neck = FPN(given, ["p6", "p7"], out_channels=8, extra=extra)
    found = neck(maps(given))
    source = found["p6"].relu() if relu else found["p6"]
    torch.testing.assert_close(found["p7"], neck.extra["p7"](source))


def test_equal_strides_are_added_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    neck = FPN(specs(strides=(1, 2, 4, 8, 8, 8)), ["p3"])
    features = maps(specs(strides=(1, 2, 4, 8, 8, 8)))
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda *_, **__: pytest.fail("resized"))
    assert neck(features)["p3"].shape[2:] == features["c3"].shape[2:]


def test_stands_on_a_dilated_backbone_of_three_stages() -> None:
    backbone = ResNet(18, stem="full", output_stride=4, norm="group")
    backbone.trim(["c4"])
    neck = FPN(backbone.features, ["p2", "p4", "p5"], norm="group")
    features = neck(backbone(torch.randn(1, 3, 20, 24)))
    assert features["p2"].shape == (1, 256, 20, 24)
    assert features["p4"].shape == (1, 256, 5, 6)
    assert features["p5"].shape == (1, 256, 3, 3)


@pytest.mark.parametrize("reads", [[], ["c2"]])
def test_without_a_level_of_it_that_is_read_it_has_no_layers(reads: list[str]) -> None:
    neck = FPN(specs(), reads, extra="conv")
    assert list(neck.specs) == ["p2", "p3", "p4", "p5", "p6", "p7"]
    assert neck.features == specs()
    assert neck.reads == ()
    assert not list(neck.parameters())


def test_exports_as_one_graph() -> None:
    class Pyramid(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = ResNet(18)
            self.neck = FPN(self.backbone.features, ["p2", "p6"], out_channels=8)

        def forward(self, x: Tensor) -> Tensor:
            features = self.neck(self.backbone(x))
            return features["p2"], features["p6"]

    network = Pyramid().eval()
    x = torch.randn(1, 3, 75, 113)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network(x))


@pytest.mark.parametrize(
    ("reads", "settings", "message"),
    [
        (["p2", "p7"], {}, "level read: .* got 'p7'"),
        (["p2"], {"extra": "pol"}, "extra: .* got 'pol'; did you mean 'pool'"),
        (["p2"], {"norm": "bach"}, "did you mean 'batch'"),
    ],
)
def test_refuses(reads: list[str], settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FPN(specs(), reads, **settings)


def test_refuses_a_backbone_without_stages() -> None:
    with pytest.raises(
        ValueError, match="FPN: expected a backbone with a level c2 or deeper, got c0, c1"
    ):
        FPN({"c0": FeatureSpec(3, (1, 1)), "c1": FeatureSpec(64, (2, 2))})
