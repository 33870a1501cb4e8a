"""The deep stem, and the dilations that mmsegmentation gives to blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.resnet import BasicBlock as TimmBlock
from timm.models.resnet import ResNet as TimmResNet
from torch import nn

from densekit.backbones import ResNet
from densekit.testing import check_backbone
from tests.parity import mmseg_reference as mmseg

SMALL: dict[str, Any] = {"depth": 18, "width": 16, "stem": "deep"}


def timms() -> Any:
    theirs = TimmResNet(TimmBlock, [2, 2, 2, 2], stem_type="deep", stem_width=32).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return theirs


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_weights_of_timms_deep_stem(norm: str, tmp_path: Path) -> None:
    theirs = timms()
    torch.save(theirs.state_dict(), tmp_path / "deep.pth")
    ours = ResNet(18, stem="deep", norm=norm, weights=tmp_path / "deep.pth").eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs.forward_features(image)
        torch.testing.assert_close(ours(image)["c5"], expected, atol=1e-5, rtol=1e-5)


def test_weights_of_a_deep_stem_adapt_to_grey_images(tmp_path: Path) -> None:
    colour = ResNet(**SMALL).eval()
    torch.save({f"net.{k}": v for k, v in colour.state_dict().items()}, tmp_path / "deep.pth")
    grey = ResNet(**SMALL, in_channels=1, weights=tmp_path / "deep.pth").eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = colour(image.expand(-1, 3, -1, -1))["c5"]
        torch.testing.assert_close(grey(image)["c5"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["", "backbone."], ids=["alone", "segmenter"])
def test_weights_of_mmsegmentations_deep_stem(prefix: str, tmp_path: Path) -> None:
    theirs = mmseg.ResNet(18, 16, deep_stem=True, strides=(1, 2, 2, 2), dilations=(1,) * 4).eval()
    mmseg.randomise(theirs)
    state = {f"{prefix}{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    ours = ResNet(**SMALL, weights=tmp_path / "theirs.pth").eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = theirs(image)[-1]
        scale = expected.abs().max()
        torch.testing.assert_close(ours(image)["c5"] / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings", [{}, {"norm": "group", "in_channels": 1}, {"spatial_dims": 3}, {"freeze_stages": 1}]
)
def test_contract_of_the_deep_stem(settings: dict[str, Any]) -> None:
    check_backbone(ResNet(**SMALL, **settings), 32)


def dilations(network: Any) -> list[list[int]]:
    """Dilation of every 3x3 convolution of the last two stages."""
    return [
        [m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv2d) and m.padding[0]]
        for stage in (network.layer3, network.layer4)
    ]


def test_dilation_of_each_block() -> None:
    with torch.device("meta"):
        both = ResNet(18, output_stride=8)
        first = ResNet(18, output_stride=8, dilate_second_conv=False)
        grid = ResNet(101, output_stride=16, multi_grid=[1, 2, 4])
    assert dilations(both) == [[1, 2, 2, 2], [2, 4, 4, 4]]
    assert dilations(first) == [[1, 1, 2, 1], [2, 1, 4, 1]]
    assert dilations(grid) == [[1] * 23, [1, 2, 4]]
    assert grid.features["c5"].stride == (16, 16)


@pytest.mark.parametrize("multi_grid", [[1, 2, 4], [1, 0], []])
def test_multi_grid_has_one_number_per_block(multi_grid: list[int]) -> None:
    with pytest.raises(ValueError, match="multi_grid: expected 2 positive numbers"):
        ResNet(18, multi_grid=multi_grid)
