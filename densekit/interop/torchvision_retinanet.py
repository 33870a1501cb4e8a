"""Conversion of torchvision's RetinaNet (ResNet with FPN, v1 and v2) to a `DenseModel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from densekit._names import choose
from densekit.heads import RetinaNet
from densekit.heads.faster_rcnn import MatchRule
from densekit.interop import torchvision_fcos
from densekit.interop.conversion import Conversion
from densekit.interop.torchvision_one_stage import (
    LOGITS,
    OURS,
    WHERE,
    convert_one_stage,
    detection_rule,
    fresh_backbone,
    is_one_stage,
    loaded,
    with_assumptions,
)
from densekit.losses import GIoUBox, SmoothL1Box

ANCHORS, GROUPS = 9, 32
"""Anchors of a cell, and groups of the norms of v2."""
V2 = "head.classification_head.conv.0.1.weight"
RENAME = (
    (r"^head\.classification_head\.conv\.", f"{OURS}.cls_convs."),
    (r"^head\.regression_head\.conv\.", f"{OURS}.box_convs."),
)


def convert_retinanet(
    model: TorchvisionRetinaNet,
    names: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
    kept: Sequence[int] | None = None,
) -> Conversion:
    """Converts a RetinaNet on a ResNet with FPN; see `convert_one_stage` for the arguments."""
    return convert_one_stage(model, _head(model), RENAME, names, info, kept)


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a RetinaNet of torchvision."""
    return is_one_stage(state) and not torchvision_fcos.matches(state)


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; what it does not say is torchvision's default.

    Args:
        state: Tensors of a `RetinaNet` on a ResNet with FPN, v1 or v2.
        names: See `convert_one_stage`.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    model = _fresh_detector(state)
    return with_assumptions(convert_retinanet(model, names, loaded(model, state)))


def _fresh_detector(state: Mapping[str, Tensor]) -> TorchvisionRetinaNet:
    """Torchvision's detector of the same layers, with fresh weights."""
    backbone = fresh_backbone(state)
    classes = len(state[LOGITS]) // ANCHORS
    if V2 not in state:
        return TorchvisionRetinaNet(backbone, classes)
    norm = partial(nn.GroupNorm, GROUPS)
    head = RetinaNetHead(backbone.out_channels, ANCHORS, classes, norm_layer=norm)
    head.regression_head._loss_type = "giou"
    return TorchvisionRetinaNet(backbone, classes, head=head)


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
        detection=detection_rule(model),
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
