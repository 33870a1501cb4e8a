"""What the conversions of torchvision's one-stage detectors (ResNet with FPN) share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from densekit.heads.one_stage import DenseDetectionRule
from densekit.heads.one_stage.dense import DenseHead
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
from densekit.interop.torchvision_detection import preparation
from densekit.interop.torchvision_tensors import fresh_pyramid
from densekit.necks import FPN

WHERE = "from_torchvision"
LOGITS = "head.classification_head.cls_logits.weight"
OURS = "heads.detection"
PYRAMID = [
    (r"^backbone\.body\.", "backbone."),
    *(
        rule
        for number in range(3)
        for rule in (
            (rf"^backbone\.fpn\.inner_blocks\.{number}\.", f"neck.lateral.c{number + 3}."),
            (rf"^backbone\.fpn\.layer_blocks\.{number}\.", f"neck.output.p{number + 3}."),
        )
    ),
    (r"^backbone\.fpn\.extra_blocks\.", "neck.extra."),
    (r"^head\.classification_head\.cls_logits\.", f"{OURS}.logits."),
    (r"^head\.regression_head\.bbox_reg\.", f"{OURS}.deltas."),
]
"""How the tensors are renamed that all of them have."""
ASSUMED = ("thresholds, resizing, mean and std are torchvision's defaults",)


def convert_one_stage(
    model: nn.Module,
    head: partial[DenseHead],
    rename: Iterable[tuple[str, str]],
    names: Sequence[str] | None,
    info: Mapping[str, Any] | None,
    kept: Sequence[int] | None,
) -> Conversion:
    """Converts a detector; torchvision's have no output for the background.

    Many count the classes from 1 all the same, as in Faster R-CNN, so that output 0 is never
    trained.

    Args:
        model: A detector with `classification_head` on a ResNet with FPN.
        head: Its head's constructor, without the number of classes.
        rename: The head's own tensors, see `renamer`.
        names: Class names: one per output, or one fewer, which leaves out output 0.
        info: Entries of the result's `info` that replace those of the conversion.
        kept: Numbers of the outputs that are kept, which are the category ids; by default all, or
            as the names say.

    Raises:
        ValueError: A setting has no counterpart, or there is not one name per class.
    """
    theirs: Any = model  # its modules have no static types
    outputs = theirs.head.classification_head.num_classes
    if kept is None:
        kept = range(1 if names is not None and len(names) == outputs - 1 else 0, outputs)
    entry = {
        "names": class_names(names, len(kept), first=kept[0]),
        "ids": list(kept),
        "num_classes": len(kept),
    }
    parts = Parts(
        backbone=like_torchvision(theirs.backbone.body, WHERE),
        neck=_neck(theirs.backbone.fpn),
        heads={"detection": partial(head, num_classes=len(kept))},
    )
    select = partial(_of_classes, count=outputs, kept=kept)
    kind, depth = type(model).__name__, parts.backbone.keywords["depth"]
    return convert_tensors(
        WHERE,
        parts,
        {"heads": {"detection": entry}, **preparation(theirs.transform), **(info or {})},
        model.state_dict(),
        renamer([*PYRAMID, *rename]),
        source=f"torchvision {kind}, {depth} layers, FPN",
        changed={f"{OURS}.logits.{kind}": select for kind in ("weight", "bias")},
    )


def is_one_stage(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a one-stage detector of torchvision."""
    return LOGITS in state and any(name.startswith("backbone.body.") for name in state)


def loaded(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Loads a state dict into a fresh detector and returns the `info` that it does not say.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    load_whole(WHERE, model, state)
    transform: Any = model.transform
    return in_bytes(transform.image_mean, transform.image_std)


def with_assumptions(found: Conversion) -> Conversion:
    """Adds what a state dict does not say."""
    return replace(found, assumed=ASSUMED)


def fresh_backbone(state: Mapping[str, Tensor]) -> BackboneWithFPN:
    """Torchvision's backbone with FPN of the same layers, with fresh weights.

    Raises:
        ValueError: Its pyramid has no p6 and p7.
    """
    source = state.get("backbone.fpn.extra_blocks.p6.weight")
    if source is None:
        raise ValueError(f"{WHERE}: expected LastLevelP6P7 as extra_blocks, got no p6")
    out_channels, channels = source.shape[:2]
    extra = LastLevelP6P7(channels, out_channels)
    return fresh_pyramid(WHERE, state, returned_layers=[2, 3, 4], extra_blocks=extra)


def detection_rule(model: Any) -> DenseDetectionRule:
    """The thresholds of a detector of torchvision."""
    return DenseDetectionRule(
        score_threshold=model.score_thresh,
        nms_iou=model.nms_thresh,
        max_detections=model.detections_per_img,
        per_level=model.topk_candidates,
    )


def _neck(fpn: Any) -> partial[FPN]:
    extra = fpn.extra_blocks
    if not isinstance(extra, LastLevelP6P7):
        raise ValueError(
            f"{WHERE}: expected LastLevelP6P7 as extra_blocks, got {type(extra).__name__}"
        )
    kind = "conv" if extra.use_P5 else "conv_backbone"
    return partial(FPN, out_channels=fpn.layer_blocks[0][0].out_channels, extra=kind)


def _of_classes(rows: Tensor, count: int, kept: Sequence[int]) -> Tensor:
    """The rows (anchors * classes, ...) of some classes."""
    selected: Tensor = rows.unflatten(0, (-1, count))[:, list(kept)]
    return selected.flatten(0, 1)
