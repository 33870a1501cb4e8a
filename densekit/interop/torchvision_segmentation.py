"""Conversion of torchvision's FCN and DeepLabV3 on a ResNet to equivalent `DenseModel`s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.models import segmentation

from densekit.heads import FCN, DeepLabV3
from densekit.interop.conversion import (
    Conversion,
    Parts,
    class_names,
    convert_tensors,
    in_bytes,
    load_whole,
    renamer,
)
from densekit.interop.resnet import like_torchvision
from densekit.interop.torchvision_tensors import below, torchvision_name

HEAD = "segmentation"
WHERE = "from_torchvision"
ASSUMED = ("dilation, mean, std and resize rule: torchvision's defaults",)


def convert_segmentation(
    model: segmentation.FCN | segmentation.DeepLabV3,
    names: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
) -> Conversion:
    """Converts a segmentation model of torchvision with its weights and settings.

    The result takes the same input as the original: normalised float images (uint8 images are only
    divided by 255). For unnormalised images give `mean`, `std` and `full_scale` in `info`.

    Args:
        model: `fcn_resnet50`, `fcn_resnet101`, `deeplabv3_resnet50` or `deeplabv3_resnet101`, with
            or without its auxiliary classifier.
        names: Class names with the background, e.g. `weights.meta["categories"]`; `class_0` and so
            on by default.
        info: Entries of the result's `info` that replace those of the conversion.

    Raises:
        TypeError: The backbone is not a ResNet.
        ValueError: There is not one name per class, or a layer has no counterpart.
    """
    theirs: Any = model
    if not hasattr(theirs.backbone, "layer4"):
        found = type(next(theirs.backbone.children())).__name__
        raise TypeError(f"{WHERE}: expected a ResNet as backbone, got one that begins with {found}")
    num_classes = theirs.classifier[-1].out_channels
    known = segmentation_info(num_classes, theirs.backbone.conv1.in_channels, names)
    backbone = like_torchvision(theirs.backbone, WHERE)
    return convert_tensors(
        WHERE,
        Parts(backbone, {HEAD: _head(theirs, num_classes)}),
        {**known, **(info or {})},
        model.state_dict(),
        renamer([(r"^(?!backbone\.)", f"heads.{HEAD}.")]),
        source=f"torchvision {type(model).__name__}, ResNet-{backbone.keywords['depth']}",
    )


def _head(model: Any, num_classes: int) -> partial[Any]:
    aux = "c4" if model.aux_classifier is not None else None
    if not isinstance(model, segmentation.DeepLabV3):
        return partial(FCN, num_classes=num_classes, aux_level=aux)
    branches = list(model.classifier[0].convs)[1:-1]
    return partial(
        DeepLabV3,
        num_classes=num_classes,
        aux_level=aux,
        rates=[branch[0].dilation[0] for branch in branches],
        channels=model.classifier[1].out_channels,
    )


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of torchvision's FCN or DeepLabV3 on a ResNet."""
    return "backbone.conv1.weight" in state and any(
        name in state for name in ("classifier.4.weight", "classifier.0.convs.0.0.weight")
    )


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; what it does not say is torchvision's default.

    Args:
        state: Tensors of `fcn_resnet*` or `deeplabv3_resnet*`.
        names: Class names with the background.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    name = torchvision_name(WHERE, below("backbone.", state))
    kind = "deeplabv3" if "classifier.0.convs.0.0.weight" in state else "fcn"
    if name not in ("resnet50", "resnet101"):
        raise ValueError(f"{WHERE}: expected resnet50 or resnet101 as backbone, got {name}")
    build = getattr(segmentation, f"{kind}_{name}")
    aux = any(key.startswith("aux_classifier.") for key in state)
    classes = len(state.get("classifier.4.bias", ()))
    model = build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=aux)
    load_whole(WHERE, model, state)
    rule = segmentation.FCN_ResNet50_Weights.DEFAULT.transforms()
    resize = {"min_size": rule.resize_size[0], "antialias": True}
    info = {**in_bytes(rule.mean, rule.std), "resize": resize}
    return replace(convert_segmentation(model, names, info), assumed=ASSUMED)


def segmentation_info(
    num_classes: int,
    channels: int,
    names: Sequence[str] | None,
    *,
    multilabel: bool = False,
) -> dict[str, Any]:
    """Returns the `info` of a converted model, which takes normalised images."""
    return {
        "heads": {
            HEAD: {
                "names": class_names(names, num_classes),
                "ids": list(range(num_classes)),
                "num_classes": num_classes,
                "background": num_classes > 1 and not multilabel,
                "multilabel": multilabel,
            }
        },
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "full_scale": 1.0,
        "channels": channels,
        "resize": None,
    }
