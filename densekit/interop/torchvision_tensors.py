"""What the tensors of torchvision's ResNets say about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from densekit.backbones.resnet import TORCHVISION_NAMES
from densekit.interop.conversion import COUNTER
from densekit.interop.resnet_tensors import resnet_of_tensors


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prefix, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def torchvision_name(where: str, state: Mapping[str, Tensor]) -> str:
    """Torchvision's name of a ResNet with these tensors: `resnet50`, `resnext101_32x8d`.

    Args:
        where: See `resnet_of_tensors`.
        state: See `resnet_of_tensors`.

    Raises:
        ValueError: It is no ResNet, or one that torchvision does not have.
    """
    settings = resnet_of_tensors(where, state).keywords
    key = (settings["depth"], settings.get("groups", 1), settings.get("width_per_group", 64))
    if key not in TORCHVISION_NAMES:
        raise ValueError(
            f"{where}: expected a ResNet of torchvision, got one of depth {key[0]} with {key[1]}"
            f" groups of {key[2]} channels"
        )
    return TORCHVISION_NAMES[key]


def body_of_detector(where: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a detector's ResNet.

    Args:
        where: Beginning of error messages.
        state: Tensors of a detector of torchvision.

    Raises:
        ValueError: Its backbone is no ResNet.
    """
    body = below("backbone.body.", state)
    if "conv1.weight" not in body:
        raise ValueError(
            f"{where}: expected a ResNet as backbone, got one that begins with {next(iter(body))}"
        )
    return body


def fresh_pyramid(where: str, state: Mapping[str, Tensor], **levels: Any) -> BackboneWithFPN:
    """Torchvision's ResNet with FPN of the same layers, with fresh weights.

    A file of frozen batch norms has no counters of batches.

    Args:
        where: See `body_of_detector`.
        state: See `body_of_detector`.
        levels: Arguments of `resnet_fpn_backbone` about the levels of the pyramid.
    """
    body = body_of_detector(where, state)
    frozen = not any(name.endswith(COUNTER) for name in body)
    return resnet_fpn_backbone(
        backbone_name=torchvision_name(where, body),
        weights=None,
        norm_layer=FrozenBatchNorm2d if frozen else nn.BatchNorm2d,
        trainable_layers=3,
        **levels,
    )
