"""Models of torchvision by name, with the weights that torchvision publishes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from densekit._names import choose
from densekit.backbones.weights import fetch
from densekit.interop.conversion import Conversion, in_bytes
from densekit.interop.torchvision import convert_torchvision
from densekit.interop.torchvision_detection import convert_detector
from densekit.interop.torchvision_fcos import convert_fcos
from densekit.interop.torchvision_retinanet import convert_retinanet

SCHEME = "torchvision:"
CONVERTIBLE = (
    "torchvision.models.resnet",
    "torchvision.models.detection.faster_rcnn",
    "torchvision.models.detection.fcos",
    "torchvision.models.detection.mask_rcnn",
    "torchvision.models.detection.retinanet",
    "torchvision.models.segmentation.fcn",
    "torchvision.models.segmentation.deeplabv3",
)
"""Modules whose builders give a model that converts, if its backbone is a ResNet."""
UNUSED = "N/A"
"""What torchvision calls the ids of COCO that no category has."""


def convert_named(name: str, names: Sequence[str] | None = None) -> Conversion:
    """Downloads and converts a model of torchvision.

    Of a detector the ids of COCO that no category has are left out, so that the classes are those
    of COCO's annotations. They never win; the scores of the others change by their softmax alone.

    Args:
        name: A builder (`fasterrcnn_resnet50_fpn_v2`), with a dot and an entry of its weights
            (`resnet50.IMAGENET1K_V1`; the default ones else), or an entry by its enumeration
            (`ResNet50_Weights.IMAGENET1K_V1`).
        names: Class names; those of the weights by default.

    Raises:
        ValueError: torchvision has no such model or weights, or the model does not convert.
        ConnectionError: The weights cannot be downloaded.
    """
    builder, entry = named_weights(name)
    path = downloaded(entry, f"{SCHEME}{name}")
    try:
        model: Any = get_model(builder, weights=entry).eval()
    except (RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{SCHEME}{name}: expected whole weights at {path}, got a damaged file; remove it to"
            " download them again"
        ) from error
    categories = list(entry.meta["categories"])
    if isinstance(model, FCOS | FasterRCNN | RetinaNet):
        found = _detector(model, categories, names, _info(entry, model))
    else:
        known = [one.strip("_") for one in categories]  # of `__background__`
        found = convert_torchvision(model, names or known, _info(entry, model))
    return replace(found, source=f"{found.source}, {type(entry).__name__}.{entry.name}")


def _detector(
    model: FCOS | FasterRCNN | RetinaNet,
    categories: Sequence[str],
    names: Sequence[str] | None,
    info: Mapping[str, Any],
) -> Conversion:
    """Converts a detector without the outputs of ids that no category has."""
    ids = [index for index, one in enumerate(categories) if index and one != UNUSED]
    known = [categories[index] for index in ids]
    if isinstance(model, RetinaNet):
        found = convert_retinanet(model, names or known, info, ids)
    elif isinstance(model, FCOS):
        found = convert_fcos(model, names or known, info, ids)
    else:
        keep_classes(model, ids)
        found = convert_detector(model, names or known, info, ids)
    assumed = (f"outputs of ids without a category left out, {len(categories) - 1 - len(ids)}",)
    return replace(found, assumed=assumed)


@torch.no_grad()
def keep_classes(model: FasterRCNN, ids: Sequence[int]) -> None:
    """Removes the outputs of all other classes than these; the background stays.

    Args:
        model: The detector, changed in place.
        ids: Indices of its outputs, from 1 on.
    """
    predictor: Any = model.roi_heads.box_predictor
    rows = torch.tensor([0, *ids])
    for layer, count in ((predictor.cls_score, 1), (predictor.bbox_pred, 4)):
        kept = (rows[:, None] * count + torch.arange(count)).flatten()
        layer.weight, layer.bias = (nn.Parameter(one[kept]) for one in (layer.weight, layer.bias))
        layer.out_features = len(kept)


def named_weights(name: str) -> tuple[str, WeightsEnum]:
    """The builder and the entry of its weights that a name stands for.

    Raises:
        ValueError: torchvision has no such model or weights, or the model does not convert.
    """
    first, _, second = name.partition(".")
    builders = {one: one for one in list_models() if _converts(one)}
    for one in builders if first.endswith("_Weights") else ():
        if get_model_weights(one).__name__ == first:
            first = one
    builder = choose(f"{SCHEME}NAME", first, builders)
    entries = get_model_weights(builder).__members__
    if not second or second == "DEFAULT":
        return builder, get_model_weights(builder).DEFAULT
    return builder, choose(f"weights of {builder}", second, entries)


def downloaded(entry: WeightsEnum, source: str) -> Path:
    """The file of weights in torch's cache, downloaded if it is not there.

    Raises:
        ConnectionError: It cannot be downloaded; the message says where to put it.
    """
    try:
        return fetch(entry.url)
    except ConnectionError as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
        raise ConnectionError(
            f"{source}: expected {entry.url} to download, got: {error.__cause__}; without a network"
            f" put that file at {path}"
        ) from error


def _converts(builder: str) -> bool:
    return _module(builder) in CONVERTIBLE and "mobilenet" not in builder


def _module(builder: str) -> str:
    from torchvision.models import get_model_builder

    return str(get_model_builder(builder).__module__)


def _info(entry: WeightsEnum, model: Any) -> Mapping[str, Any]:
    """Preparation of images, in the unit of 8-bit images."""
    rule = entry.transforms()
    if isinstance(rule, ImageClassification):
        (short,), (crop,) = rule.resize_size, rule.crop_size
        resize = {"min_size": short, "crop": crop, "antialias": True}
        return {**in_bytes(rule.mean, rule.std), "resize": resize}
    if isinstance(rule, SemanticSegmentation):
        (short,) = rule.resize_size
        resize = {"min_size": short, "antialias": True}
        return {**in_bytes(rule.mean, rule.std), "resize": resize}
    return in_bytes(model.transform.image_mean, model.transform.image_std)
