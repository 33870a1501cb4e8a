"""Conversion of torchvision's RetinaNet (ResNet with FPN, v1 and v2) to a `DenseModel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from densekit._names import choose
from densekit.heads import RetinaNet
from densekit.heads.faster_rcnn import MatchRule
from densekit.heads.one_stage import DenseDetectionRule
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
from densekit.losses import GIoUBox, SmoothL1Box
from densekit.necks import FPN

WHERE = "from_torchvision"
ANCHORS, GROUPS = 9, 32
"""Anchors of a cell, and groups of the norms of v2."""
LOGITS = "head.classification_head.cls_logits.weight"
V2 = "head.classification_head.conv.0.1.weight"
_OURS = "heads.detection"
RENAME = renamer(
    [
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
        (r"^head\.classification_head\.conv\.", f"{_OURS}.cls_convs."),
        (r"^head\.classification_head\.cls_logits\.", f"{_OURS}.logits."),
        (r"^head\.regression_head\.conv\.", f"{_OURS}.box_convs."),
        (r"^head\.regression_head\.bbox_reg\.", f"{_OURS}.deltas."),
    ]
)
ASSUMED = ("thresholds, resizing, mean and std are torchvision's defaults",)


def convert_retinanet(
    model: TorchvisionRetinaNet,
    names: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
    kept: Sequence[int] | None = None,
) -> Conversion:
    """Converts a RetinaNet; see `densekit.interop.from_torchvision`.

    torchvision's RetinaNet has no output for the background, but many count the classes from 1,
    as in Faster R-CNN, so that output 0 is never trained.

    Args:
        model: A `RetinaNet` on a ResNet with FPN.
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
        heads={"detection": partial(_head(theirs), num_classes=len(kept))},
    )
    select = partial(_of_classes, count=outputs, kept=kept)
    return convert_tensors(
        WHERE,
        parts,
        {"heads": {"detection": entry}, **preparation(theirs.transform), **(info or {})},
        model.state_dict(),
        RENAME,
        source=f"torchvision RetinaNet, {parts.backbone.keywords['depth']} layers, FPN",
        changed={f"{_OURS}.logits.{kind}": select for kind in ("weight", "bias")},
    )


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a RetinaNet of torchvision."""
    return LOGITS in state and any(name.startswith("backbone.body.") for name in state)


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; what it does not say is torchvision's default.

    Args:
        state: Tensors of a `RetinaNet` on a ResNet with FPN, v1 or v2.
        names: See `convert_retinanet`.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    model = _fresh_detector(state)
    load_whole(WHERE, model, state)
    transform: Any = model.transform
    found = convert_retinanet(model, names, in_bytes(transform.image_mean, transform.image_std))
    return replace(found, assumed=ASSUMED)


def _fresh_detector(state: Mapping[str, Tensor]) -> TorchvisionRetinaNet:
    """Torchvision's detector of the same layers, with fresh weights."""
    source = state.get("backbone.fpn.extra_blocks.p6.weight")
    if source is None:
        raise ValueError(f"{WHERE}: expected LastLevelP6P7 as extra_blocks, got no p6")
    out_channels, channels = source.shape[:2]
    extra = LastLevelP6P7(channels, out_channels)
    backbone = fresh_pyramid(WHERE, state, returned_layers=[2, 3, 4], extra_blocks=extra)
    classes = len(state[LOGITS]) // ANCHORS
    if V2 not in state:
        return TorchvisionRetinaNet(backbone, classes)
    norm = partial(nn.GroupNorm, GROUPS)
    head = RetinaNetHead(out_channels, ANCHORS, classes, norm_layer=norm)
    head.regression_head._loss_type = "giou"
    return TorchvisionRetinaNet(backbone, classes, head=head)


def _neck(fpn: Any) -> partial[FPN]:
    extra = fpn.extra_blocks
    if not isinstance(extra, LastLevelP6P7):
        raise ValueError(
            f"{WHERE}: expected LastLevelP6P7 as extra_blocks, got {type(extra).__name__}"
        )
    kind = "conv" if extra.use_P5 else "conv_backbone"
    return partial(FPN, out_channels=fpn.layer_blocks[0][0].out_channels, extra=kind)


def _head(model: Any) -> partial[RetinaNet]:
    ratios = set(model.anchor_generator.aspect_ratios)
    if len(ratios) != 1:
        raise ValueError(f"{WHERE}: expected the same aspect_ratios on all levels, got {ratios}")
    matcher, towers = model.proposal_matcher, model.head.classification_head.conv
    return partial(
        RetinaNet,
        depth=len(towers),
        norm=_norm(towers[0]),
        sizes=model.anchor_generator.sizes,
        aspect_ratios=model.anchor_generator.aspect_ratios[0],
        round_anchors=True,
        grid_strides=True,
        matching=MatchRule(
            matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches
        ),
        box_loss=_box_loss(model.head.regression_head._loss_type),
        detection=DenseDetectionRule(
            score_threshold=model.score_thresh,
            nms_iou=model.nms_thresh,
            max_detections=model.detections_per_img,
            per_level=model.topk_candidates,
        ),
    )


def _norm(block: Any) -> str | None:
    norms = [layer for layer in block if not isinstance(layer, nn.Conv2d | nn.ReLU)]
    if not norms:
        return None
    if isinstance(norms[0], nn.GroupNorm) and norms[0].num_groups == GROUPS:
        return "group"
    raise ValueError(f"{WHERE}: expected a head with GroupNorm of {GROUPS}, got {norms[0]}")


def _box_loss(kind: str) -> SmoothL1Box | GIoUBox:
    known = {"l1": SmoothL1Box(), "smooth_l1": SmoothL1Box(1.0), "giou": GIoUBox()}
    return choose(f"{WHERE}: loss of the regression head", kind, known)


def _of_classes(rows: Tensor, count: int, kept: Sequence[int]) -> Tensor:
    """The rows (anchors * classes, ...) of some classes."""
    selected: Tensor = rows.unflatten(0, (-1, count))[:, list(kept)]
    return selected.flatten(0, 1)
