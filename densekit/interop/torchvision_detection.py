"""Conversion of torchvision's Faster and Mask R-CNN on a ResNet with FPN, v1 and v2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densekit.heads import FasterRCNN, MaskRCNN
from densekit.heads.faster_rcnn import (
    RPN,
    BoxHead,
    BoxLossRule,
    DetectionRule,
    MaskHead,
    MatchRule,
    PoolRule,
    ProposalRule,
    SamplingRule,
)
from densekit.interop.conversion import (
    Conversion,
    Parts,
    class_names,
    convert_tensors,
    in_bytes,
    load_whole,
)
from densekit.interop.resnet import like_torchvision
from densekit.interop.torchvision_tensors import (
    body_of_detector,
    fresh_pyramid,
    torchvision_name,
)
from densekit.necks import FPN

WHERE = "from_torchvision"
V2 = "roi_heads.box_head.0.0.weight"
"""A tensor that only the second version's box head has."""
ASSUMED = (
    "anchors, thresholds, mean, std and resize rule: torchvision's defaults",
    "batch norm: eps 1e-5, the stem and the first stage frozen",
)


def convert_detector(
    model: TorchvisionFasterRCNN,
    names: Sequence[str] | None = None,
    info: Mapping[str, Any] | None = None,
    ids: Sequence[int] | None = None,
) -> Conversion:
    """Converts a Faster or Mask R-CNN; see `densekit.interop.from_torchvision`.

    Args:
        model: A `FasterRCNN` or `MaskRCNN` on a ResNet with FPN.
        names: Class names without the background.
        info: Entries of the result's `info` that replace those of the conversion.
        ids: Category ids in annotations, one per class; 1 and so on by default.

    Raises:
        ValueError: A setting has no counterpart, or there is not one name per class.
    """
    theirs: Any = model  # its modules have no static types
    num_classes = theirs.roi_heads.box_predictor.bbox_pred.out_features // 4 - 1
    known = _info(model, class_names(names, num_classes, first=1), ids)
    with_masks = theirs.roi_heads.has_mask()
    make = partial(MaskRCNN, mask_head=_mask_head(theirs.roi_heads)) if with_masks else FasterRCNN
    parts = Parts(
        backbone=like_torchvision(theirs.backbone.body, WHERE),
        neck=_neck(theirs.backbone.fpn),
        heads={
            "detection": partial(
                make,
                num_classes=num_classes,
                rpn=_rpn(theirs.rpn),
                box_head=_box_head(theirs.roi_heads),
                detection=DetectionRule(
                    score_threshold=theirs.roi_heads.score_thresh,
                    nms_iou=theirs.roi_heads.nms_thresh,
                    max_detections=theirs.roi_heads.detections_per_img,
                ),
            )
        },
    )
    depth = parts.backbone.keywords["depth"]
    layers = list(theirs.roi_heads.box_head.children())
    linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    return convert_tensors(
        WHERE,
        parts,
        {**known, **(info or {})},
        model.state_dict(),
        lambda key: rename(key, linear[0]),
        source=f"torchvision {'Mask' if with_masks else 'Faster'} R-CNN, {depth} layers, FPN",
        changed=_changed(theirs),
    )


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a two-stage detector of torchvision."""
    return any(name.startswith("roi_heads.box_predictor.") for name in state) and any(
        name.startswith("backbone.body.") for name in state
    )


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Converts a state dict; what it does not say is torchvision's default.

    Args:
        state: Tensors of a `FasterRCNN` or `MaskRCNN` on a ResNet with FPN, v1 or v2.
        names: Class names without the background.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    model = _fresh_detector(state)
    load_whole(WHERE, model, state)
    transform: Any = model.transform
    found = convert_detector(model, names, in_bytes(transform.image_mean, transform.image_std))
    return replace(found, assumed=ASSUMED)


def _fresh_detector(state: Mapping[str, Tensor]) -> TorchvisionFasterRCNN:
    """Torchvision's detector of the same layers, with fresh weights."""
    classes = len(state.get("roi_heads.box_predictor.cls_score.bias", ()))
    with_masks = any(name.startswith("roi_heads.mask_predictor.") for name in state)
    if V2 not in state:
        make = TorchvisionMaskRCNN if with_masks else TorchvisionFasterRCNN
        return make(fresh_pyramid(WHERE, state), classes)
    name = torchvision_name(WHERE, body_of_detector(WHERE, state))
    if name != "resnet50":
        raise ValueError(f"{WHERE}: expected resnet50 below a head of v2, got {name}")
    make_v2 = maskrcnn_resnet50_fpn_v2 if with_masks else fasterrcnn_resnet50_fpn_v2
    return make_v2(
        weights=None, weights_backbone=None, num_classes=classes, trainable_backbone_layers=3
    )


def _info(
    model: TorchvisionFasterRCNN, names: list[str], ids: Sequence[int] | None
) -> dict[str, Any]:
    return {
        "heads": {
            "detection": {
                "names": names,
                "ids": list(ids or range(1, len(names) + 1)),
                "num_classes": len(names),
            }
        },
        **preparation(model.transform),
    }


def preparation(transform: Any) -> dict[str, Any]:
    """How a detector of torchvision prepares its images, for the `info` of a `DenseModel`.

    Raises:
        ValueError: It resizes all images to one size.
    """
    if transform.fixed_size is not None:
        raise ValueError(
            f"{WHERE}: expected transform.fixed_size=None, got {transform.fixed_size}; use min_size"
        )
    return {
        "mean": list(transform.image_mean),
        "std": list(transform.image_std),
        "full_scale": 1.0,
        "channels": len(transform.image_mean),
        "resize": {"min_size": int(transform.min_size[-1]), "max_size": int(transform.max_size)},
    }


def _neck(fpn: Any) -> partial[FPN]:
    if not isinstance(fpn.extra_blocks, LastLevelMaxPool):
        raise ValueError(
            f"{WHERE}: expected LastLevelMaxPool as extra_blocks, got "
            f"{type(fpn.extra_blocks).__name__}"
        )
    output = fpn.layer_blocks[0]
    norm = "batch" if len(output) > 1 else None
    return partial(FPN, out_channels=output[0].out_channels, norm=norm)


def _match_rule(matcher: Any) -> MatchRule:
    return MatchRule(
        matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches
    )


def _sampling_rule(sampler: Any) -> SamplingRule:
    return SamplingRule(sampler.batch_size_per_image, sampler.positive_fraction)


def _rpn(rpn: RegionProposalNetwork) -> partial[RPN]:
    if rpn.score_thresh > 0:
        raise ValueError(f"{WHERE}: expected rpn_score_thresh=0, got {rpn.score_thresh}")
    anchors = rpn.anchor_generator
    if len(set(anchors.aspect_ratios)) != 1:
        raise ValueError(
            f"{WHERE}: expected the same aspect_ratios on all levels, got {anchors.aspect_ratios}"
        )
    pre, post = rpn._pre_nms_top_n, rpn._post_nms_top_n
    return partial(
        RPN,
        sizes=anchors.sizes,
        aspect_ratios=anchors.aspect_ratios[0],
        depth=len(rpn.head.conv),
        proposals=ProposalRule(
            pre["training"], post["training"], pre["testing"], post["testing"], rpn.nms_thresh
        ),
        matching=_match_rule(rpn.proposal_matcher),
        sampling=_sampling_rule(rpn.fg_bg_sampler),
    )


def _pool_rule(pool: Any) -> PoolRule:
    return PoolRule(
        output=pool.output_size[0],
        samples=pool.sampling_ratio,
        canonical_size=pool.canonical_scale,
    )


def _mask_head(roi_heads: Any) -> partial[MaskHead]:
    layers = list(roi_heads.mask_head.modules())
    normed = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    return partial(
        MaskHead,
        convs=[layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)],
        norm=nn.BatchNorm2d if normed else None,
        pool=_pool_rule(roi_heads.mask_roi_pool),
    )


def _box_head(roi_heads: RoIHeads) -> partial[BoxHead]:
    layers = list(roi_heads.box_head.modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    normed = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    return partial(
        BoxHead,
        convs=[conv.out_channels for conv in convs],
        hidden=[layer.out_features for layer in layers if isinstance(layer, nn.Linear)],
        norm=nn.BatchNorm2d if normed else None,
        pool=_pool_rule(roi_heads.box_roi_pool),
        matching=_match_rule(roi_heads.proposal_matcher),
        sampling=_sampling_rule(roi_heads.fg_bg_sampler),
        box_loss=BoxLossRule(delta_weights=tuple(roi_heads.box_coder.weights)),
    )


_HEAD = "heads.detection"
RENAMED = (
    (r"^backbone\.body\.", "backbone."),
    (r"^rpn\.head\.conv\.(\d+)\.0\.", rf"{_HEAD}.rpn.convs.\1."),
    (r"^rpn\.head\.cls_logits\.", f"{_HEAD}.rpn.logits."),
    (r"^rpn\.head\.bbox_pred\.", f"{_HEAD}.rpn.deltas."),
    (r"^roi_heads\.box_head\.fc6\.", f"{_HEAD}.box_head.hidden.0."),
    (r"^roi_heads\.box_head\.fc7\.", f"{_HEAD}.box_head.hidden.1."),
    (r"^roi_heads\.box_predictor\.cls_score\.", f"{_HEAD}.box_head.logits."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", f"{_HEAD}.box_head.deltas."),
    (r"^roi_heads\.mask_head\.(\d+)\.", rf"{_HEAD}.mask_head.convs.\1."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", f"{_HEAD}.mask_head.upsample."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", f"{_HEAD}.mask_head.logits."),
)


def rename(key: str, first_linear: int | None = None) -> str:
    """Returns densekit's name of a tensor of torchvision's detector.

    Args:
        key: torchvision's name.
        first_linear: Index of the first fully connected layer in v2's sequential box head.
    """
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    fpn = re.match(r"^backbone\.fpn\.(inner|layer)_blocks\.(\d+)\.(.+)$", key)
    if fpn:
        kind, number, rest = fpn.groups()
        level = int(number) + 2
        inner = kind == "inner"
        return f"neck.lateral.c{level}.{rest}" if inner else f"neck.output.p{level}.{rest}"
    box = re.match(r"^roi_heads\.box_head\.(\d+)\.(.+)$", key)
    if box and first_linear is not None:
        index, rest = int(box[1]), box[2]
        if index < first_linear:
            return f"{_HEAD}.box_head.convs.{index}.{rest}"
        return f"{_HEAD}.box_head.hidden.{(index - first_linear) // 2}.{rest}"
    return key


def _changed(model: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    """The tensors that are stored in another order, and how they change."""
    pool, box = model.roi_heads.box_roi_pool, f"{_HEAD}.box_head"
    convs = [one for one in model.roi_heads.box_head.modules() if isinstance(one, nn.Conv2d)]
    channels = convs[-1].out_channels if convs else model.backbone.out_channels
    changed: dict[str, Callable[[Tensor], Tensor]] = {
        f"{box}.hidden.0.weight": partial(
            channels_last_columns, channels=channels, bins=pool.output_size[0]
        )
    }
    for part in ("weight", "bias"):  # torchvision puts the background first, densekit last
        changed[f"{box}.logits.{part}"] = background_last
        changed[f"{box}.deltas.{part}"] = partial(without_background, rows_per_class=4)
        changed[f"{_HEAD}.mask_head.logits.{part}"] = without_background
    return changed


def background_last(rows: Tensor) -> Tensor:
    """Moves the first row, the background's, behind the classes."""
    return rows.roll(-1, 0)


def without_background(rows: Tensor, rows_per_class: int = 1) -> Tensor:
    """Removes the first rows, the background's."""
    return rows[rows_per_class:]


def channels_last_columns(weight: Tensor, channels: int, bins: int) -> Tensor:
    """Reorders columns of the first linear layer from (channel, row, column) to channels last."""
    return weight.view(-1, channels, bins * bins).transpose(1, 2).flatten(1)
