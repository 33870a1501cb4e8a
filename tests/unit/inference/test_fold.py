"""A folded copy predicts what the model predicts, with no batch norm left that could be folded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit import DenseModel
from densekit.backbones import CifarResNet, IResNet, ResNet, TimmBackbone
from densekit.heads import (
    ATSS,
    FCN,
    FCOS,
    SSD,
    YOLOX,
    DeepLabV3,
    DeepLabV3Plus,
    Embedding,
    FasterRCNN,
    PSPNet,
    RetinaNet,
    SemanticFPN,
    SmpHead,
    UNet,
    UPerNet,
)
from densekit.heads.classification import Classification
from densekit.heads.embedding import FlattenedMap
from densekit.heads.faster_rcnn import BoxHead
from densekit.heads.segmentation.smp_head import DECODERS
from densekit.heads.segmentation.unet import FixedBlock
from densekit.inference.fold import folded
from densekit.layers import FrozenBatchNorm
from densekit.necks import FPN
from densekit.necks.fpn import FixedSplit

small = partial(ResNet, 18, width=16)
BACKBONES: dict[str, Callable[[], Any]] = {
    "resnet": small,
    "frozen": partial(small, norm="frozen"),
    "resnext": partial(ResNet, 50, groups=2, width_per_group=32, width=16),
    "deep stem": partial(small, stem="deep"),
    "volume": partial(ResNet, 18, width=8, spatial_dims=3, in_channels=1),
    "series": partial(ResNet, 18, width=8, spatial_dims=1, in_channels=1),
    "cifar": partial(CifarResNet, 8),
    "iresnet": partial(IResNet, 18),
    "efficientnet": partial(TimmBackbone, "efficientnet_b0"),
    "mobilenet": partial(TimmBackbone, "mobilenetv3_small_050"),
}
KEPT = {"iresnet": 8, "volume": 0}
"""Norms that are kept: that of an iResNet's block stands before a padded convolution."""


def model_of(backbone: Any, head: Any, neck: Any = None) -> DenseModel:
    torch.manual_seed(0)
    channels = backbone.features["c0"].channels
    info = {"mean": [100.0] * channels, "std": [50.0] * channels}
    return with_statistics(DenseModel(backbone, {"head": head}, neck, info).eval())


@torch.no_grad()
def with_statistics(model: DenseModel) -> DenseModel:
    """Gives every batch norm statistics as of a trained network."""
    for module in model.modules():
        if isinstance(module, _BatchNorm | FrozenBatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            if isinstance(module, FrozenBatchNorm):
                module.fold()
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm | FrozenBatchNorm) for module in model.modules())


@torch.no_grad()
def gap(model: DenseModel, other: DenseModel, side: int = 64) -> float:
    """Largest relative difference of the outputs for two images, one of them padded."""
    sides = (side,) * model.spatial_dims
    image = torch.rand(2, model.mean.shape[1], *sides, dtype=model.mean.dtype) * 255
    size = torch.tensor([sides, [side - 10] * len(sides)])
    expected, found = model(image, size)["head"], other(image, size)["head"]
    return max(_relative(found[key], expected[key]) for key in expected)


def _relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.double(), expected.double().nan_to_num(0, 0, 0)
    return float((found.nan_to_num(0, 0, 0) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_folded(name: str) -> None:
    model = model_of(BACKBONES[name](), partial(Classification, num_classes=3))
    state = copy.deepcopy(model.state_dict())

    copied = folded(model)

    assert norms(copied) == KEPT.get(name, 0)
    assert gap(model, copied) < 1e-4
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


SMALL_BOX_HEAD = partial(BoxHead, convs=(16,), hidden=(16,), norm=nn.BatchNorm2d)
HEADS: dict[str, Any] = {
    "unet": partial(UNet, num_classes=3),
    "deeplabv3": partial(DeepLabV3, num_classes=3, channels=16),
    "deeplabv3plus": partial(DeepLabV3Plus, num_classes=3, channels=16, depthwise_norm=True),
    "fcn": partial(FCN, num_classes=3),
    "pspnet": partial(PSPNet, num_classes=3),
    "upernet": partial(UPerNet, num_classes=3, channels=16),
    "semantic_fpn": partial(SemanticFPN, num_classes=3, channels=16, norm="batch"),
    "embedding": partial(Embedding, num_identities=4, embedding_size=8),
    "arcface": partial(
        Embedding, num_identities=4, embedding_size=8, pool=partial(FlattenedMap, size=(96, 96))
    ),
    "retinanet": partial(RetinaNet, num_classes=3, norm="batch", depth=1),
    "atss": partial(ATSS, num_classes=3, norm="batch", depth=1),
    "fcos": partial(FCOS, num_classes=3, norm="batch", depth=1),
    "ssd": partial(SSD, num_classes=3),
    "yolox": partial(YOLOX, num_classes=3, channels=8),
    "faster_rcnn": partial(FasterRCNN, num_classes=3, box_head=SMALL_BOX_HEAD),
}
LEFT = {"deeplabv3": 1, "fcn": 1, "pspnet": 1, "upernet": 1, "arcface": 1}
"""The norm of an auxiliary classifier does not run; that of a flattened map precedes no layer."""


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_folded(name: str) -> None:
    neck = partial(
        FPN,
        out_channels=16,
        extra="conv" if name in ("retinanet", "fcos", "atss") else "pool",
        norm="batch",
    )
    model = model_of(small(), HEADS[name], neck)

    copied = folded(model)

    assert norms(copied) == LEFT.get(name, 0)
    assert gap(model.double(), copied.double(), 96) < 1e-4


def test_class_centres_are_left_out() -> None:
    model: Any = model_of(small(), HEADS["embedding"])
    copied: Any = folded(model)

    assert copied.heads["head"].classifier is None
    assert model.heads["head"].classifier is not None


@pytest.mark.parametrize("decoder", DECODERS)
def test_smp_decoders_are_folded(decoder: str) -> None:
    stride = 16 if decoder in ("deeplabv3plus", "pan") else 32
    model = model_of(
        ResNet(18, width=16, output_stride=stride), partial(SmpHead, num_classes=3, decoder=decoder)
    )

    copied = folded(model)

    assert norms(copied) == 0
    assert gap(model, copied, 128) < 1e-4


class Shared(Classification):
    """Reads the output of a convolution beside its norm, and shares another between two norms."""

    def __init__(self, specs: Any, **settings: Any) -> None:
        super().__init__(specs, **settings)
        channels = specs[self.level].channels
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
        self.twice = nn.Conv2d(channels, channels, 1)
        self.first, self.second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.alone, self.after = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, features: Any, size: Tensor) -> dict[str, Tensor]:
        x = features[self.level]
        y = self.conv(x)
        x = y + self.norm(y) + self.first(self.twice(x)) - self.second(self.twice(x))
        return super().forward({self.level: self.after(self.alone(x))}, size)


def test_norms_that_cannot_be_folded_are_kept() -> None:
    model = model_of(small(), partial(Shared, num_classes=3))
    head: Any = folded(model).heads["head"]

    assert gap(model, folded(model)) < 1e-4
    assert isinstance(head.norm, nn.BatchNorm2d)
    assert isinstance(head.first, nn.BatchNorm2d)
    assert isinstance(head.second, nn.BatchNorm2d)
    assert isinstance(head.after, nn.Identity)


class Choosy(Classification):
    """Takes images of one odd size only."""

    def forward(self, features: Any, size: Tensor) -> dict[str, Tensor]:
        if features["c0"].shape[-1] != 37:
            raise ValueError("image: expected 37 pixels")
        return super().forward(features, size)


def test_a_model_that_cannot_be_tried_is_copied() -> None:
    model = model_of(small(), partial(Choosy, num_classes=3))

    copied = folded(model)

    assert norms(copied) == norms(model)
    assert gap(model, copied, 37) == 0


@pytest.mark.parametrize(("dims", "side"), [(2, 64), (2, 63), (3, 32), (1, 70)])
def test_a_unet_sums_its_taps_once(dims: int, side: int) -> None:
    backbone = ResNet(
        18, width=8, spatial_dims=dims, in_channels=1, skip_downsampling=(dims == 3, 0, 0)[-dims:]
    )
    model = model_of(backbone, partial(UNet, num_classes=3))

    copied: Any = folded(model)

    assert all(isinstance(b, FixedBlock) for b in copied.heads["head"].decoder["blocks"])
    assert gap(model, copied, side) < 1e-4


def test_a_pyramid_merges_its_weights_once() -> None:
    neck = partial(FPN, out_channels=64)
    model = model_of(small(), partial(FCN, num_classes=3, level="p2", aux_level=None), neck)

    copied: Any = folded(model)

    assert isinstance(copied.neck.fixed_split, FixedSplit)
    assert model.neck.fixed_split is None
    assert gap(model, copied) < 1e-4


def test_a_copy_keeps_the_layout_of_the_weights_and_their_type() -> None:
    model = model_of(small(), partial(UNet, num_classes=3)).to(memory_format=torch.channels_last)

    copied: Any = folded(model)

    assert copied.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert {x.dtype for x in copied.state_dict().values() if x.is_floating_point()} == {
        torch.float32
    }
