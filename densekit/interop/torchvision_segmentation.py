"""Conversion of torchvision's FCN and DeepLabV3 on a ResNet to equivalent `DenseModel`s."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import segmentation

from densekit.heads import FCN, DeepLabV3
from densekit.interop.resnet import like_torchvision
from densekit.model import DenseModel

HEAD = "segmentation"


def from_segmentation(
    model: segmentation.FCN | segmentation.DeepLabV3, names: Sequence[str] | None = None
) -> DenseModel:
    """Converts a segmentation model of torchvision with its weights and settings.

    The result takes the same input as the original: normalised float images (uint8 images are only
    divided by 255). For unnormalised images build a new model with `info["mean"]` and
    `info["std"]`.

    Args:
        model: `fcn_resnet50`, `fcn_resnet101`, `deeplabv3_resnet50` or `deeplabv3_resnet101`, with
            or without its auxiliary classifier.
        names: Class names with the background, e.g. `weights.meta["categories"]`; `class_0` and so
            on by default.

    Raises:
        TypeError: The backbone is not a ResNet.
        ValueError: There is not one name per class, or a layer has no counterpart.
    """
    theirs: Any = model
    if not hasattr(theirs.backbone, "layer4"):
        found = type(next(theirs.backbone.children())).__name__
        raise TypeError(
            f"from_torchvision: expected a ResNet as backbone, got one that begins with {found}"
        )
    num_classes = theirs.classifier[-1].out_channels
    aux = theirs.aux_classifier is not None
    settings: dict[str, Any] = {"num_classes": num_classes, "aux_level": "c4" if aux else None}
    head: partial[Any]
    if isinstance(model, segmentation.DeepLabV3):
        pyramid = theirs.classifier[0]
        rates = [branch[0].dilation[0] for branch in list(pyramid.convs)[1:-1]]
        channels = theirs.classifier[1].out_channels
        head = partial(DeepLabV3, rates=rates, channels=channels, **settings)
    else:
        head = partial(FCN, **settings)
    converted = DenseModel(
        backbone=like_torchvision(theirs.backbone, "from_torchvision"),
        heads={HEAD: head},
        info=segmentation_info(num_classes, theirs.backbone.conv1.in_channels, names),
    )
    load(converted, model, "from_torchvision", {"backbone.": "backbone."})
    return converted


def segmentation_info(
    num_classes: int,
    channels: int,
    names: Sequence[str] | None,
    *,
    multilabel: bool = False,
) -> dict[str, Any]:
    """Returns the `info` of a converted model, which takes normalised images."""
    if names is None:
        names = [f"class_{number}" for number in range(num_classes)]
    if len(names) != num_classes:
        raise ValueError(f"names: expected one per class ({num_classes}), got {len(names)}")
    return {
        "heads": {
            HEAD: {
                "names": list(names),
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


def load(model: DenseModel, theirs: nn.Module, where: str, prefixes: dict[str, str]) -> None:
    """Copies weights, device, dtype and mode from the original.

    Args:
        model: The converted model.
        theirs: The original.
        where: Beginning of error messages.
        prefixes: Prefixes of the original's names to densekit's; other names are the head's.

    Raises:
        ValueError: A tensor of the head has no counterpart.
    """
    state: dict[str, Tensor] = {}
    for key, value in theirs.state_dict().items():
        prefix = next((old for old in prefixes if key.startswith(old)), None)
        if prefix is None:
            state[f"heads.{HEAD}.{key}"] = value
        else:
            state[prefixes[prefix] + key.removeprefix(prefix)] = value
    own = model.state_dict()
    for unused in getattr(model.heads[HEAD], "unused", ()):  # what the original never runs
        state = {k: v for k, v in state.items() if not k.startswith(f"heads.{HEAD}.{unused}")}
    trimmed = {key for key in state if key.startswith("backbone.")} - set(own)
    state = {key: value for key, value in state.items() if key not in trimmed}
    different = sorted(state.keys() ^ own.keys()) or sorted(
        key for key, value in state.items() if value.shape != own[key].shape
    )
    if different:
        raise ValueError(
            f"{where}: expected the same tensors, got a difference in {', '.join(different[:3])}"
        )
    weight = next(theirs.parameters())
    model.to(weight.device, weight.dtype)  # first, or float64 weights would become float32
    model.load_state_dict(state)
    model.train(theirs.training)
