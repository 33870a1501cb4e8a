"""Conversion of timm's ResNets of torchvision's architecture to equivalent `DenseModel`s."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from densekit._names import choose
from densekit.interop.conversion import Conversion, in_bytes
from densekit.interop.torchvision_classification import classifier
from densekit.model import DenseModel


def from_timm(model: nn.Module, names: Sequence[str] | None = None) -> DenseModel:
    """Converts a classifier of timm whose layers are torchvision's; the logits are equal.

    The result takes unnormalised images, with the mean and std of the model's `pretrained_cfg`.

    Args:
        model: `resnet18`, `resnet50`, `resnext50_32x4d`, `wide_resnet50_2` or similar. Variants
            with another stem, pooling, shortcut or attention (resnet50d, seresnet50, ecaresnet50d)
            have no counterpart.
        names: Class names; `class_0` and so on by default.

    Raises:
        TypeError: The model is not timm's ResNet.
        ValueError: A layer has no counterpart; the message names it.
    """
    return convert_timm(model, names).model.train(model.training)


def convert_timm(
    model: nn.Module, names: Sequence[str] | None = None, info: Mapping[str, Any] | None = None
) -> Conversion:
    """Converts a classifier of timm as `from_timm` does.

    Args:
        model: See `from_timm`.
        names: See `from_timm`.
        info: Entries of the result's `info` that replace those of the conversion.
    """
    from timm.models.resnet import ResNet

    if not isinstance(model, ResNet):
        raise TypeError(
            "from_timm: expected a ResNet of torchvision's architecture (resnet*, resnext*,"
            f" wide_resnet*), got {type(model).__name__}"
        )
    theirs: Any = model
    _check_layers(theirs)
    cfg = theirs.pretrained_cfg or {}
    known = len(cfg.get("mean") or ()) == theirs.conv1.in_channels
    own = in_bytes(cfg["mean"], cfg["std"]) if known else {}
    name = ".".join(str(cfg[key]) for key in ("architecture", "tag") if cfg.get(key)) or "ResNet"
    return classifier("from_timm", theirs, names, own | dict(info or {}), source=f"timm {name}")


def convert_named(name: str, names: Sequence[str] | None = None) -> Conversion:
    """Downloads a classifier of timm from the Hugging Face hub and converts it.

    Args:
        name: timm's name of a ResNet and its weights, `resnet50.a1_in1k`.
        names: Class names; `class_0` and so on by default.

    Raises:
        ValueError: timm has no such weights, or the model does not convert.
        ConnectionError: The weights cannot be downloaded.
    """
    import timm

    networks = timm.list_models(module="resnet", pretrained=True)
    known = {one: one for one in (*networks, *(one.partition(".")[0] for one in networks))}
    full = choose("timm:NAME", name, known)
    convert_timm(timm.create_model(full, pretrained=False), names)  # refused before the download
    try:
        model = timm.create_model(full, pretrained=True).eval()
    except (OSError, RuntimeError) as error:
        known_cfg = timm.get_pretrained_cfg(full)
        where = known_cfg.url if known_cfg else "its weights"
        raise ConnectionError(
            f"timm:{name}: expected {where} to download, got: {str(error).splitlines()[0]}; without"
            " a network convert a file: source=model.safetensors"
        ) from error
    cfg: Any = model.pretrained_cfg
    return convert_timm(model, names or _names(model), {"resize": _resize(cfg)})


def _names(model: Any) -> list[str] | None:
    """Names of ImageNet's classes, if the model was trained on one of its lists."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    known: Any = ImageNetInfo(subset)
    return list(known.label_descriptions())


def _resize(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of timm's evaluation; it enlarges by the crop's fraction and crops the centre."""
    side = int(cfg["input_size"][-1])
    return {"min_size": math.floor(side / cfg["crop_pct"]), "crop": side, "antialias": True}


def _check_layers(model: Any) -> None:
    """Refuses layers that torchvision's ResNet lacks, before the others are compared."""
    plain = {
        "stem": isinstance(model.conv1, nn.Conv2d),
        "max-pool": isinstance(model.maxpool, nn.MaxPool2d),
        "pooling": getattr(model.global_pool, "pool_type", None) == "avg",
        "activation": isinstance(model.act1, nn.ReLU),
    }
    for block in model.modules():
        for name in ("se", "aa", "drop_block", "drop_path"):
            part = getattr(block, name, None)
            plain.setdefault(name, True)
            plain[name] &= part is None or isinstance(part, nn.Identity)
    if odd := [name for name, same in plain.items() if not same]:
        raise ValueError(
            f"from_timm: expected torchvision's architecture, got another {', '.join(odd)}"
        )
