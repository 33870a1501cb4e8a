"""Torchvision's one-stage detectors and ours with the same weights, images and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densekit.app.studies.benchmark.detectors import (
    PEER,
    PROOF_BATCH,
    PROOF_SIZE,
    compared,
    standardise,
)
from densekit.app.studies.benchmark.images import batch_of
from densekit.app.studies.benchmark.pair import Options, Pair
from densekit.app.studies.benchmark.work import Work
from densekit.data import Scenes
from densekit.interop import from_torchvision

TERMS: Mapping[str, Mapping[str, str]] = {
    "retinanet": {"classification": "detection/cls", "bbox_regression": "detection/box"},
    "fcos": {
        "classification": "detection/cls",
        "bbox_regression": "detection/box",
        "bbox_ctrness": "detection/centerness",
    },
}
LOGIT, SPREAD = -4.0, 2.0
"""Mean and standard deviation of the class logits: few anchors are objects, as in a trained net."""


def one_stage_work(options: Options) -> Work:
    """A training step or a prediction of RetinaNet or FCOS.

    Raises:
        RuntimeError: Losses or detections differ: timing unequal models means nothing.
    """
    proof = one_stage_pair(options, PROOF_SIZE, PROOF_BATCH)
    pair = one_stage_pair(options, options["size"], options["batch"])
    return compared(type(pair.theirs).__name__, options, proof, pair)


def one_stage_pair(options: Options, size: Sequence[int], batch: int) -> Pair:
    """Both detectors with seeded random weights and plain batch norm, all of it trained."""
    theirs = _torchvision(options, size)
    data: Any = batch_of(Scenes("train", batch, size=size), options["device"])
    images = [image.float() / 255 for image in data["image"]]
    standardise(theirs, images)
    _spread(theirs, images)
    ours: Any = from_torchvision(theirs).to(memory_format=torch.channels_last)
    data["labels"] = data["labels"] % int(options["classes"])
    targets = [
        {"boxes": boxes[valid], "labels": labels[valid]}
        for boxes, labels, valid in zip(
            data["boxes"], data["labels"], data["boxes_valid"], strict=True
        )
    ]
    terms = TERMS[options["work"]]
    return Pair(
        PEER,
        theirs,
        ours,
        data,
        lambda model: {terms[name]: loss for name, loss in model(images, targets).items()},
        lambda model: model(images),
    )


def _torchvision(options: Options, size: Sequence[int]) -> nn.Module:
    from torchvision.models.detection import FCOS, RetinaNet
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{options['depth']}",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    kind = {"retinanet": RetinaNet, "fcos": FCOS}[options["work"]]
    sides = {"min_size": min(size), "max_size": max(size)}
    model: nn.Module = kind(body, int(options["classes"]), **sides)
    return model.to(options["device"])


@torch.no_grad()
def _spread(model: Any, images: Sequence[Tensor]) -> None:
    """Spreads the class logits, so that rounding decides little."""
    layer, kept = model.head.classification_head.cls_logits, []
    hook = layer.register_forward_hook(lambda *call: kept.append(call[2]))
    model(list(images))
    hook.remove()
    rows = torch.cat([x.movedim(1, -1).flatten(0, -2) for x in kept])
    factor = SPREAD / rows.std(0)
    layer.weight.mul_(factor[:, None, None, None])
    layer.bias.copy_((layer.bias - rows.mean(0)) * factor + LOGIT)
