"""Small segmentation models and batches for tests of heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from densekit import DenseModel
from densekit.backbones import ResNet
from densekit.heads import (
    FCN,
    DeepLabV3,
    DeepLabV3Plus,
    PSPNet,
    SemanticFPN,
    SmpHead,
    UNet,
    UPerNet,
)
from densekit.necks import FPN
from densekit.types import IGNORE_INDEX, Batch
from tests.unit.tiny import TinyBackbone

SMALL: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "unet": (UNet, {"decoder_channels": (16, 12, 8, 8, 8)}),
    "unet_deep": (UNet, {"decoder_channels": (16, 12, 8, 8, 8), "deep_supervision": True}),
    "unet_instance": (UNet, {"depth": 3, "norm": "instance"}),
    "fcn": (FCN, {}),
    "fcn_no_aux": (FCN, {"aux_level": None}),
    "fcn_mmseg": (FCN, {"num_convs": 2, "dilation": 2, "concat_input": True}),
    "pspnet": (PSPNet, {}),
    "pspnet_instance": (PSPNet, {"channels": 8, "norm": "instance", "align_corners": True}),
    "upernet": (UPerNet, {"channels": 8}),
    "semantic_fpn": (SemanticFPN, {"channels": 8}),
    "deeplabv3": (DeepLabV3, {"channels": 8, "rates": (1, 2, 3)}),
    "deeplabv3_mmseg": (DeepLabV3, {"channels": 8, "rates": (1, 2, 3), "project_kernel": 3}),
    "deeplabv3plus": (DeepLabV3Plus, {"channels": 8, "rates": (1, 2, 3)}),
    "deeplabv3plus_instance": (
        DeepLabV3Plus,
        {"channels": 8, "rates": (1, 2, 3), "norm": "instance"},
    ),
    "deeplabv3plus_mmseg": (
        DeepLabV3Plus,
        {
            "channels": 8,
            "skip_channels": 4,
            "rates": (1, 2, 3),
            "project_kernel": 3,
            "depthwise_norm": True,
            "decoder_convs": 2,
            "aux_level": "c4",
            "align_corners": False,
        },
    ),
    "smp_unet": (SmpHead, {"decoder": "unet"}),
    "unetplusplus": (SmpHead, {"decoder": "unetplusplus", "decoder_channels": (16, 12, 8, 8, 8)}),
    "manet": (SmpHead, {"decoder": "manet", "decoder_channels": (16, 12, 8, 8, 8)}),
    "linknet": (SmpHead, {"decoder": "linknet", "prefinal_channels": 8}),
    "smp_fpn": (SmpHead, {"decoder": "fpn", "pyramid_channels": 32, "segmentation_channels": 32}),
    "smp_pspnet": (SmpHead, {"decoder": "pspnet", "out_channels": 16}),
    "pan": (SmpHead, {"decoder": "pan", "depth": 3}),
    "smp_upernet": (SmpHead, {"decoder": "upernet", "decoder_channels": 16}),
    "segformer": (SmpHead, {"decoder": "segformer", "segmentation_channels": 16}),
    "smp_deeplabv3": (SmpHead, {"decoder": "deeplabv3", "out_channels": 8}),
    "smp_deeplabv3plus": (SmpHead, {"decoder": "deeplabv3plus", "out_channels": 8, "depth": 4}),
}
"""Every head with settings that make it small."""


def model(name: str, num_classes: int = 3, **settings: Any) -> DenseModel:
    make, own = SMALL[name]
    head = partial(make, num_classes=num_classes, **(own | settings))
    return DenseModel(TinyBackbone(), {"segmentation": head}, partial(FPN, out_channels=8))


def resnet_unet(spatial_dims: int, stem: str, backbone: dict[str, Any], **unet: Any) -> DenseModel:
    encoder = ResNet(18, in_channels=1, spatial_dims=spatial_dims, stem=stem, **backbone)
    info = {"mean": [0.0], "std": [1.0]}
    return DenseModel(encoder, {"segmentation": partial(UNet, num_classes=2, **unet)}, info=info)


def batch(
    sides: tuple[int, ...] = (65, 97),
    count: int = 2,
    num_classes: int = 3,
    channels: int = 3,
    multilabel: bool = False,
) -> Batch:
    """Noise with random masks; the last image is smaller than the batch's size."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, num_classes, *sides) if multilabel else (count, *sides)
    values = 2 if multilabel else max(2, num_classes)
    mask = torch.randint(0, values, shape, generator=generator, dtype=torch.uint8)
    image = torch.rand(count, channels, *sides, generator=generator) * 255
    size = torch.tensor([sides] * count)
    size[-1, 0] -= 3
    mask.select(0, count - 1)[..., -3:, *(slice(None) for _ in sides[1:])] = IGNORE_INDEX
    image[-1, :, -3:] = 0
    return {"image": image, "size": size, "mask": mask}


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]
