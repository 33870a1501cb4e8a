"""The parameters and operations in docs/backbones.md are measured ones, and the published ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from densekit import backbones
from densekit.backbones import Backbone, CifarResNet, IResNet, ResNet

PAGE = Path(__file__).resolve().parents[3] / "docs" / "backbones.md"
PAPER = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}
"""10^9 multiply-adds at 224 pixels, table 1 of the paper; the stride is in the first 1x1 there."""


def rows(heading: str) -> dict[str, list[str]]:
    """First cell to the other cells of the table under a heading, without its head."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `?(.+?)`? \|(.+)\|$", section, re.M)[1:]
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def parameters(network: Backbone, classes: int = 0) -> int:
    """Of the backbone and, if there are classes, of a fully connected layer behind it."""
    width = list(network.features.values())[-1].channels
    return sum(p.numel() for p in network.parameters()) + classes * (width + 1) * (classes > 0)


def billions(network: Backbone, side: int, classes: int = 0) -> float:
    """10^9 multiply-adds of the convolutions and the classifier, of one image."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty(1, 3, side, side, device="meta"))
    width = list(network.features.values())[-1].channels
    return (counter.get_total_flops() / 2 + width * classes) / 1e9


RESNETS = sorted(
    (name for name in backbones.__all__ if "resn" in name),
    key=lambda name: ("x" in name, "wide" in name, int(re.findall(r"\d+", name)[0]), name),
)


def test_every_resnet_is_in_the_table() -> None:
    assert [name for name in rows("Sizes") if name != "VGG-16"] == RESNETS


@pytest.mark.parametrize("name", RESNETS)
def test_resnet(name: str) -> None:
    with torch.device("meta"):
        network = getattr(backbones, name)()
    count, operations, paper = rows("Sizes")[name]
    measured = parameters(network, 1000), billions(network, 224, 1000)
    assert (int(count.replace(",", "")), float(operations)) == (measured[0], round(measured[1], 2))
    published = next(iter(get_model_weights(name))).meta
    assert measured[0] == published["num_params"]
    assert measured[1] == pytest.approx(published["_ops"], abs=2e-3)
    depth = int(re.findall(r"\d+", name)[0])
    if name != f"resnet{depth}":
        assert paper == "-"
        return
    with torch.device("meta"):
        network = ResNet(depth, stride_in_1x1=depth >= 50)
    found, _, stated = paper.partition(" / ")
    assert float(stated) == PAPER[depth]
    assert float(found) == round(billions(network, 224, 1000), 2)
    assert float(found) == pytest.approx(PAPER[depth], abs=0.1)  # which cuts digits off


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar(depth: int) -> None:
    with torch.device("meta"):
        network = CifarResNet(depth)
    count, operations = rows("Small networks")[f"CifarResNet({depth})"]
    assert int(count.replace(",", "")) == parameters(network, 10)
    assert float(operations) == round(1000 * billions(network, 32, 10), 1)


@pytest.mark.parametrize("depth", [18, 34, 50, 100, 200])
def test_iresnet(depth: int) -> None:
    with torch.device("meta"):
        network = IResNet(depth)
    count, operations = rows("Faces")[f"IResNet({depth})"]
    assert int(count.replace(",", "")) == parameters(network)
    assert float(operations) == round(billions(network, 112), 2)
