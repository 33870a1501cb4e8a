"""Conversion of torchvision's ResNet, ResNeXt and Wide ResNet classifiers to `DenseModel`s."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import ResNet

from densekit.heads import Classification
from densekit.interop.resnet import like_torchvision
from densekit.model import DenseModel
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

HEAD = "classification"


def from_classifier(model: ResNet, names: Sequence[str] | None = None) -> DenseModel:
    """Converts a classifier of torchvision; the logits are equal.

    The result takes unnormalised images, uint8 or floats in 0..255, and normalises them for
    torchvision's weights. It does not resize; for these weights set `info["resize"]` to
    `{"min_size": 256, "crop": 224}` (V1) or `{"min_size": 232, "crop": 224}` (V2).

    Args:
        model: `resnet18` to `resnet152`, `resnext*`, `wide_resnet*`.
        names: Class names, e.g. `weights.meta["categories"]`; `class_0` and so on by default.

    Raises:
        ValueError: There is not one name per class, or a layer has no counterpart.
    """
    return classifier("from_torchvision", model, names, IMAGENET_MEAN, IMAGENET_STD)


def classifier(
    where: str,
    model: Any,
    names: Sequence[str] | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> DenseModel:
    """Converts a classifier with torchvision's modules, from any library.

    Args:
        where: Beginning of error messages: the function that the user called.
        model: The classifier, with `conv1`, `bn1`, `layer1` to `layer4` and a linear `fc`.
        names: Class names; `class_0` and so on if None.
        mean: One value per channel, in the unit of 8-bit images; their average is used if the model
            has another number of channels.
        std: As `mean`.

    Raises:
        ValueError: See `from_classifier`.
    """
    if not isinstance(model.fc, nn.Linear):
        raise ValueError(f"{where}: fc: expected one Linear layer, got {type(model.fc).__name__}")
    num_classes, channels = model.fc.out_features, model.conv1.in_channels
    names = [f"class_{n}" for n in range(num_classes)] if names is None else list(names)
    if len(names) != num_classes:
        raise ValueError(f"names: expected one per class ({num_classes}), got {len(names)}")
    dropout = float(getattr(model, "drop_rate", 0.0))  # timm's, before the last layer
    converted = DenseModel(
        backbone=like_torchvision(model, where),
        heads={HEAD: partial(Classification, num_classes=num_classes, dropout=dropout)},
        info=_info(names, channels) | {"mean": _fit(mean, channels), "std": _fit(std, channels)},
    )
    renamed = {
        f"heads.{HEAD}.{key}" if key.startswith("fc.") else f"backbone.{key}": value
        for key, value in model.state_dict().items()
    }
    if different := sorted(renamed.keys() ^ converted.state_dict().keys()):
        raise ValueError(
            f"{where}: expected torchvision's layers, got a difference in"
            f" {', '.join(different[:3])}"
        )
    weight = model.fc.weight
    converted.to(weight.device, weight.dtype)  # first, or float64 weights would become float32
    converted.load_state_dict(renamed)
    return converted.train(model.training)


def _info(names: list[str], channels: int) -> dict[str, Any]:
    head = {
        "names": names,
        "ids": list(range(len(names))),
        "num_classes": len(names),
        "multilabel": False,
    }
    return {"heads": {HEAD: head}, "channels": channels, "resize": None}


def _fit(values: Sequence[float], channels: int) -> list[float]:
    mean = sum(values) / len(values)
    return [float(v) for v in values] if len(values) == channels else [mean] * channels
