"""Conversion of plain ResNets: classifiers in torchvision's and timm's layout, and pre-trainings.

Self-supervised pre-trainings (MoCo, DINO, SimCLR, BYOL, SwAV, Barlow Twins) give a backbone alone;
their projection heads, queues and averaged networks are left out, and nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from densekit.backbones.unwrapping import QUEUES, chosen_prefix, is_of_pretraining
from densekit.heads import Classification
from densekit.interop.conversion import (
    Conversion,
    Parts,
    abridged,
    convert_tensors,
    renamer,
)
from densekit.interop.resnet_tensors import resnet_name, resnet_of_tensors
from densekit.interop.torchvision_classification import HEAD, classification_info, image_info
from densekit.interop.torchvision_tensors import below

WHERE = "source"
FIRST_CONV, FIRST_BLOCK = "conv1.weight", "layer1.0.conv1.weight"
CLASSIFIERS = ("", "module.", "model.", "module.model.", "net.", "network.", "resnet.")
"""Prefixes below which `fc` is a classifier; below those of pre-trainings it is a projection."""
ASSUMED = ("mean and std: ImageNet's, of RGB images",)


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether there is a ResNet, below any prefix."""
    return bool(prefixes(state))


def prefixes(state: Mapping[str, Tensor]) -> set[str]:
    """Prefixes below which there is a ResNet."""
    ends = {name.removesuffix(FIRST_CONV) for name in state if name.endswith(FIRST_CONV)}
    return {prefix for prefix in ends if prefix + FIRST_BLOCK in state}


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a classifier, or the backbone of a pre-training.

    Args:
        state: Tensors of one ResNet, or of two of which it is clear which one is meant.
        names: Class names of a classifier.

    Raises:
        ValueError: It is not clear which network is meant, or a tensor is neither its own nor of a
            projection head.
    """
    found = prefixes(state)
    prefix = chosen_prefix(found)
    if prefix is None:
        listed = ", ".join(sorted(found))
        raise ValueError(f"{WHERE}: expected one network, got several, below {listed}")
    if prefix in CLASSIFIERS and len(found) == 1 and f"{prefix}fc.weight" in state:
        return _classifier(prefix, state, names)
    return _backbone(prefix, found - {prefix}, state)


def _classifier(
    prefix: str, state: Mapping[str, Tensor], names: Sequence[str] | None
) -> Conversion:
    backbone = resnet_of_tensors(WHERE, below(prefix, state))
    num_classes = len(state[f"{prefix}fc.weight"])
    info = classification_info(names, num_classes, backbone.keywords["in_channels"])
    start = re.escape(prefix)
    return convert_tensors(
        WHERE,
        Parts(backbone, {HEAD: partial(Classification, num_classes=num_classes)}),
        info,
        state,
        renamer([(rf"^{start}fc\.", f"heads.{HEAD}.fc."), (f"^{start}", "backbone.")]),
        source=f"{resnet_name(backbone)} classifier in torchvision's layout",
        assumed=(*ASSUMED, "resize rule: none"),
    )


def _backbone(prefix: str, others: set[str], state: Mapping[str, Tensor]) -> Conversion:
    left = {name: reason for name in state if (reason := _reason(name, prefix, others))}
    over = [name for name in state if not name.startswith(prefix) and name not in left]
    if over:
        raise ValueError(
            f"{WHERE}: expected a ResNet and projection heads of its pre-training, got also"
            f" {abridged(over)}"
        )
    backbone = resnet_of_tensors(WHERE, below(prefix, state))
    return convert_tensors(
        WHERE,
        Parts(backbone, {}),
        image_info(backbone.keywords["in_channels"]) | {"heads": {}, "resize": None},
        state,
        renamer([(rf"^{re.escape(prefix)}", "backbone.")]),
        source=f"{resnet_name(backbone)} of a pre-training, below {prefix!r}",
        dropped={rf"{re.escape(name)}$": reason for name, reason in left.items()},
        assumed=ASSUMED,
    )


def _reason(name: str, prefix: str, others: set[str]) -> str | None:
    """Why a tensor beside the network is left out; None for one that must not be."""
    if any(other and name.startswith(other) for other in others):
        return "of the other network of the pre-training"
    if name.endswith(QUEUES):
        return "the queue of negatives of the pre-training"
    if is_of_pretraining(name.removeprefix(prefix)):
        return "a projection head of the pre-training"
    return None
