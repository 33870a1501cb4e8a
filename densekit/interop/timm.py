"""Conversion of timm's ResNets of torchvision's architecture to equivalent `DenseModel`s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from densekit.interop.conversion import Conversion
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


def convert_timm(model: nn.Module, names: Sequence[str] | None = None) -> Conversion:
    """Converts a classifier of timm as `from_timm` does."""
    from timm.models.resnet import ResNet

    if not isinstance(model, ResNet):
        raise TypeError(
            "from_timm: expected a ResNet of torchvision's architecture (resnet*, resnext*,"
            f" wide_resnet*), got {type(model).__name__}"
        )
    theirs: Any = model
    _check_layers(theirs)
    cfg = theirs.pretrained_cfg or {}
    info: dict[str, Any] = {
        key: [255.0 * value for value in cfg[key]] for key in ("mean", "std") if cfg.get(key)
    }
    name = str(cfg.get("architecture") or "ResNet")
    return classifier("from_timm", theirs, names, info, source=f"timm {name}")


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
