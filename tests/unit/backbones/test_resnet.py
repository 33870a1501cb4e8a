"""The ResNet keeps the backbone contract in every variant, and refuses what it cannot be."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from packaging.version import Version
from torch import Tensor, nn

from densekit import backbones
from densekit.backbones import ResNet
from densekit.testing import check_backbone

STEMS = ("imagenet", "caffe", "half", "full")
GRID = itertools.product((18, 50), (1, 2, 3), (8, 16, 32), STEMS)  # both kinds of block
OTHER_DEPTHS = [(depth, 2, 16, "imagenet") for depth in (34, 101, 152)]


@pytest.mark.parametrize(("depth", "spatial_dims", "output_stride", "stem"), [*GRID, *OTHER_DEPTHS])
def test_specs_are_the_shapes_of_a_forward(
    depth: int, spatial_dims: int, output_stride: int, stem: str
) -> None:
    with torch.device("meta"):
        network = ResNet(
            depth, spatial_dims=spatial_dims, output_stride=output_stride, stem=stem, in_channels=2
        )
        features = network(torch.empty(1, 2, *[70] * spatial_dims))
    assert list(features) == list(network.features) == ["c0", "c1", "c2", "c3", "c4", "c5"]
    for level, spec in network.features.items():
        expected = [math.ceil(70 / stride) for stride in spec.stride]
        assert list(features[level].shape) == [1, spec.channels, *expected]
    assert max(network.features["c5"].stride) == min(
        output_stride, {"imagenet": 32, "caffe": 32, "half": 16, "full": 8}[stem]
    )


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"depth": 18}, 32),
        ({"depth": 18, "in_channels": 1, "norm": "group", "zero_init_residual": True}, 32),
        ({"depth": 18, "spatial_dims": 1, "stem": "half"}, 64),
        ({"depth": 18, "spatial_dims": 3, "stem": "full"}, 8),
        ({"depth": 50, "width": 8, "stem_width": 16, "stem": "caffe"}, 32),
        ({"depth": 18, "spatial_dims": 3, "skip_downsampling": [2, 0, 1]}, 32),
        ({"depth": 18, "skip_downsampling": [1, 0], "stem": "half", "output_stride": 8}, 32),
        ({"depth": 34, "output_stride": 8, "norm": "frozen"}, 32),
        ({"depth": 50, "freeze_stages": 2}, 32),
        ({"depth": 50, "groups": 32, "width_per_group": 4, "output_stride": 16}, 32),
        ({"depth": 50, "stride_in_1x1": True, "norm": "frozen", "freeze_stages": 3}, 32),
        ({"depth": 50, "freeze_stages": 5, "norm": "sync"}, 32),
    ],
    ids=str,
)
def test_contract(settings: dict[str, Any], size: int) -> None:
    check_backbone(ResNet(**settings), size)


@pytest.mark.parametrize("name", [name for name in backbones.__all__ if "res" in name])
def test_variants(name: str) -> None:
    with torch.device("meta"):
        network = getattr(backbones, name)(in_channels=4)
    channels = 512 if network.features["c2"].channels == 64 else 2048
    assert network.features["c5"].channels == channels
    assert network.conv1.in_channels == 4


@pytest.mark.parametrize("depth", [18, 50])
def test_dilation_answers_as_the_strided_network_does(depth: int) -> None:
    """The dilated map, subsampled, is the map of the network it was made from."""
    strided = ResNet(depth).double().eval()
    dilated = ResNet(depth, output_stride=8).double().eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 75, 97, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(dilated(x)["c5"][..., ::4, ::4], strided(x)["c5"])


def test_held_axes_sit_out_the_first_halvings() -> None:
    with torch.device("meta"):
        network = ResNet(18, spatial_dims=3, skip_downsampling=[2, 0, 1])
    strides = [spec.stride for spec in network.features.values()]
    assert strides == [(1, 1, 1), (1, 2, 1), (1, 4, 2), (2, 8, 4), (4, 16, 8), (8, 32, 16)]


@pytest.mark.parametrize("depth", [18, 50])
def test_width_scales_every_level(depth: int) -> None:
    narrow, plain = ResNet(depth, width=16), ResNet(depth)
    for level, spec in list(plain.features.items())[1:]:
        assert narrow.features[level].channels * 4 == spec.channels
    check_backbone(narrow, 32)


def test_width_must_leave_whole_channels() -> None:
    with pytest.raises(ValueError, match="width: expected a positive number .* got 0"):
        ResNet(18, width=0)


@pytest.mark.parametrize("skip_downsampling", [[1], [0, 0, 0], [-1, 0]])
def test_skip_downsampling_needs_a_number_for_each_axis(skip_downsampling: list[int]) -> None:
    with pytest.raises(ValueError, match="skip_downsampling: expected 2 numbers"):
        ResNet(18, skip_downsampling=skip_downsampling)


def test_stride_in_1x1_moves_the_stride() -> None:
    block = ResNet(50, stride_in_1x1=True).layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    block = ResNet(50).layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_zero_init_makes_every_block_its_shortcut() -> None:
    network = ResNet(50, zero_init_residual=True).eval()
    assert all(not block.bn3.weight.any() for block in network.layer3)
    x = torch.rand(1, 512, 8, 8)
    assert torch.equal(network.layer2[1](x), x)


def test_initial_weights_are_torchvisions() -> None:
    weight = ResNet(18).layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)


def test_frozen_stages_stay_frozen() -> None:
    network = ResNet(18, freeze_stages=2)
    before = copy.deepcopy(network.state_dict())
    for _ in range(2):
        network.train()
        assert not network.bn1.training
        assert not any(module.training for module in network.layer1.modules())
        assert network.layer2.training
        network(torch.randn(2, 3, 32, 32))["c5"].sum().backward()
    after = network.state_dict()
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"layer2", "layer3", "layer4"}
    frozen = {key.split(".")[0] for key, p in network.named_parameters() if p.grad is None}
    assert frozen == {"conv1", "bn1", "layer1"}


def test_trim_below_a_frozen_stage() -> None:
    network = ResNet(18, freeze_stages=3)
    network.trim(["c1", "c0"])
    assert list(network.train().features) == ["c0", "c1"]
    assert [name for name, _ in network.named_children()] == ["conv1", "bn1"]


def test_trim_says_what_it_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    network = ResNet(18)
    network.trim(["c3", "c2"])
    assert "c4, c5" in caplog.text
    assert not any(key.startswith(("layer3", "layer4")) for key in network.state_dict())
    caplog.clear()
    network.trim(["c3"])
    assert not caplog.text


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_bfloat16_autocast_keeps_maps_in_16_bits(norm: str) -> None:
    network = ResNet(18, norm=norm).eval()
    dtypes: set[torch.dtype] = set()

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        dtypes.add(output.dtype)

    for stage in ("layer1", "layer2", "layer3", "layer4"):
        network.get_submodule(stage).register_forward_hook(note)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
    if norm != "group":  # autocast itself runs group norm in float32
        assert dtypes == {torch.float32, torch.bfloat16}
        assert all(rounded[level].dtype == torch.bfloat16 for level in list(rounded)[1:])
    error = (rounded["c5"].float() - exact["c5"]).norm() / exact["c5"].norm()
    assert error < 0.03


@pytest.mark.xfail(
    Version(torch.__version__) < Version("2.13"),
    reason="max_pool2d of older torch exports a guard on the parity of the sides",
)
@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_one_graph_for_all_sizes(norm: str) -> None:
    network = ResNet(18, norm=norm, output_stride=16).eval()
    height, width = (torch.export.Dim(name, min=33, max=512) for name in ("height", "width"))
    example = torch.randn(2, 3, 64, 96)
    shapes = {"x": {2: height, 3: width}}
    exported = torch.export.export(network, (example,), dynamic_shapes=shapes).module()
    x = torch.randn(2, 3, 75, 113)
    with torch.no_grad():
        torch.testing.assert_close(exported(x)["c5"], network(x)["c5"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 51}, "depth: expected one of 18, 34, 50, 101, 152, got 51"),
        ({"depth": 18, "groups": 32}, "ResNet-18 has no bottlenecks"),
        ({"norm": "forzen"}, "norm: .* got 'forzen'; did you mean 'frozen'"),
        ({"stem": "imagnet"}, "did you mean 'imagenet'"),
        ({"stem_width": 0}, "stem_width: expected a positive number, got 0"),
        ({"spatial_dims": 4}, "spatial_dims: expected 1, 2 or 3, got 4"),
        ({"output_stride": 12}, "output_stride: expected one of 4, 8, 16, 32 .* got 12"),
        ({"output_stride": 2}, "output_stride: expected .* got 2"),
        ({"freeze_stages": 6}, "freeze_stages: expected 0 to 5, got 6"),
        ({"norm": "frozen", "zero_init_residual": True}, "zero_init_residual"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        ResNet(**settings)


@pytest.mark.parametrize(
    ("levels", "message"), [(["c6"], "did you mean"), (["c0"], "to be read, got none")]
)
def test_trim_refuses(levels: list[str], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        ResNet(18).trim(levels)
