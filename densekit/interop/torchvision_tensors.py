"""What the tensors of torchvision's ResNets say about them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from densekit.backbones.resnet import TORCHVISION_NAMES
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
