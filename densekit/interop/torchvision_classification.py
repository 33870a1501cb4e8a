"""Conversion of torchvision's ResNet, ResNeXt and Wide ResNet classifiers to `DenseModel`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torchvision.models import ResNet

from densekit.heads import Classification
from densekit.interop.conversion import (
    Conversion,
    Parts,
    class_names,
    convert_tensors,
    renamer,
)
from densekit.interop.resnet import like_torchvision
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

HEAD = "classification"


def convert_classifier(
    model: ResNet, names: Sequence[str] | None = None, info: Mapping[str, Any] | None = None
) -> Conversion:
    """Converts a classifier of torchvision; the logits are equal.

    The result takes unnormalised images, uint8 or floats in 0..255, and normalises them for
    torchvision's weights. It does not resize; for these weights set `info["resize"]` to
    `{"min_size": 256, "crop": 224}` (V1) or `{"min_size": 232, "crop": 224}` (V2).

    Args:
        model: `resnet18` to `resnet152`, `resnext*`, `wide_resnet*`.
        names: Class names, e.g. `weights.meta["categories"]`; `class_0` and so on by default.
        info: Entries of the result's `info` that replace those of the conversion.

    Raises:
        ValueError: There is not one name per class, or a layer has no counterpart.
    """
    return classifier(
        "from_torchvision", model, names, info or {}, source="torchvision ResNet classifier"
    )


def classifier(
    where: str, model: Any, names: Sequence[str] | None, info: Mapping[str, Any], *, source: str
) -> Conversion:
    """Converts a classifier with torchvision's modules, from any library.

    Args:
        where: Beginning of error messages: the function that the user called.
        model: The classifier, with `conv1`, `bn1`, `layer1` to `layer4` and a linear `fc`.
        names: Class names; `class_0` and so on if None.
        info: Entries of the result's `info` that replace those of the conversion.
        source: See `Conversion`.

    Raises:
        ValueError: See `convert_classifier`.
    """
    if not isinstance(model.fc, nn.Linear):
        raise ValueError(f"{where}: fc: expected one Linear layer, got {type(model.fc).__name__}")
    num_classes, channels = model.fc.out_features, model.conv1.in_channels
    known = classification_info(names, num_classes, channels) | dict(info)
    dropout = float(getattr(model, "drop_rate", 0.0))  # timm's, before the last layer
    head = partial(Classification, num_classes=num_classes, dropout=dropout)
    return convert_tensors(
        where,
        Parts(like_torchvision(model, where), {HEAD: head}),
        known,
        model.state_dict(),
        renamer([(r"^(?=fc\.)", f"heads.{HEAD}."), (r"^", "backbone.")]),
        source=source,
    )


def classification_info(
    names: Sequence[str] | None, num_classes: int, channels: int
) -> dict[str, Any]:
    """The `info` of a classifier of unnormalised images, without a resize rule."""
    head = {
        "names": class_names(names, num_classes),
        "ids": list(range(num_classes)),
        "num_classes": num_classes,
        "multilabel": False,
    }
    return {**image_info(channels), "heads": {HEAD: head}, "resize": None}


def image_info(channels: int) -> dict[str, Any]:
    """Channels, and ImageNet's mean and std; of other than RGB images their average."""
    return {
        "channels": channels,
        "mean": _fit(IMAGENET_MEAN, channels),
        "std": _fit(IMAGENET_STD, channels),
    }


def _fit(values: Sequence[float], channels: int) -> list[float]:
    mean = sum(values) / len(values)
    return [float(v) for v in values] if len(values) == channels else [mean] * channels
