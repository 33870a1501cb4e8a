"""Conversion of torchvision's Faster R-CNN (ResNet with FPN, v1 and v2) to a `DenseModel`.

For segmentation models see `torchvision_segmentation`, for classifiers
`torchvision_classification`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.segmentation import FCN, DeepLabV3
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from densekit.heads import FasterRCNN
from densekit.heads.faster_rcnn import (
    RPN,
    BoxHead,
    BoxLossRule,
    DetectionRule,
    MatchRule,
    PoolRule,
    ProposalRule,
    SamplingRule,
)
from densekit.interop.resnet import like_torchvision
from densekit.interop.torchvision_classification import from_classifier
from densekit.interop.torchvision_segmentation import from_segmentation
from densekit.model import DenseModel
from densekit.necks import FPN

LEVELS = ("p2", "p3", "p4", "p5", "p6")

State = dict[str, Tensor]


def from_torchvision(model: nn.Module, names: Sequence[str] | None = None) -> DenseModel:
    """Converts a Faster R-CNN, FCN, DeepLabV3 or ResNet classifier of torchvision.

    A detector returns the same detections, with labels that start at 0 without background. It
    takes the same input as the original, float images in 0..1, and also uint8 images. For a
    segmentation model see `densekit.interop.torchvision_segmentation.from_segmentation`, for a
    classifier `densekit.interop.torchvision_classification.from_classifier`.

    Args:
        model: `fasterrcnn_resnet50_fpn`, its v2, or a `FasterRCNN` on `resnet_fpn_backbone`;
            `fcn_resnet50`, `deeplabv3_resnet101` or similar; `resnet50` or similar.
        names: Class names, of a detector without the background, e.g.
            `weights.meta["categories"][1:]`, of a segmentation model with it.

    Raises:
        TypeError: It is another kind of model.
        ValueError: A setting has no counterpart in densekit.
    """
    if isinstance(model, FCN | DeepLabV3):
        return from_segmentation(model, names)
    if type(model) is ResNet:
        return from_classifier(model, names)
    if type(model) is not TorchvisionFasterRCNN:
        raise TypeError(
            "from_torchvision: expected torchvision's FasterRCNN, FCN, DeepLabV3 or ResNet, got "
            f"{type(model).__name__}"
        )
    theirs: Any = model  # its modules have no static types
    num_classes = theirs.roi_heads.box_predictor.bbox_pred.out_features // 4 - 1
    if names is None:
        names = [f"class_{number}" for number in range(1, num_classes + 1)]
    if len(names) != num_classes:
        raise ValueError(f"names: expected one per class ({num_classes}), got {len(names)}")
    converted = DenseModel(
        backbone=like_torchvision(theirs.backbone.body, "from_torchvision"),
        neck=_neck(theirs.backbone.fpn),
        heads={
            "detection": partial(
                FasterRCNN,
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
        info=_info(model, list(names)),
    )
    weight = next(model.parameters())
    converted.to(weight.device, weight.dtype)  # first, or float64 weights would become float32
    converted.load_state_dict(_state(model))
    return converted.train(model.training)


def _info(model: TorchvisionFasterRCNN, names: list[str]) -> dict[str, Any]:
    transform = model.transform
    if transform.fixed_size is not None:
        raise ValueError(
            "from_torchvision: expected transform.fixed_size=None, got"
            f" {transform.fixed_size}; use min_size"
        )
    return {
        "heads": {
            "detection": {
                "names": names,
                "ids": list(range(1, len(names) + 1)),
                "num_classes": len(names),
            }
        },
        "mean": list(transform.image_mean),
        "std": list(transform.image_std),
        "full_scale": 1.0,
        "channels": len(transform.image_mean),
        "resize": {"min_size": int(transform.min_size[-1]), "max_size": int(transform.max_size)},
    }


def _neck(fpn: Any) -> partial[FPN]:
    if not isinstance(fpn.extra_blocks, LastLevelMaxPool):
        raise ValueError(
            "from_torchvision: expected LastLevelMaxPool as extra_blocks, got "
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
        raise ValueError(f"from_torchvision: expected rpn_score_thresh=0, got {rpn.score_thresh}")
    anchors = rpn.anchor_generator
    if len(set(anchors.aspect_ratios)) != 1:
        raise ValueError(
            "from_torchvision: expected the same aspect_ratios on all levels, got"
            f" {anchors.aspect_ratios}"
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


def _box_head(roi_heads: RoIHeads) -> partial[BoxHead]:
    pool = roi_heads.box_roi_pool
    layers = list(roi_heads.box_head.modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    normed = any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    return partial(
        BoxHead,
        convs=[conv.out_channels for conv in convs],
        hidden=[layer.out_features for layer in layers if isinstance(layer, nn.Linear)],
        norm=nn.BatchNorm2d if normed else None,
        pool=PoolRule(
            output=pool.output_size[0],
            samples=pool.sampling_ratio,
            canonical_size=pool.canonical_scale,
        ),
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


def _state(model: TorchvisionFasterRCNN) -> State:
    layers = list(model.roi_heads.box_head.children())
    linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    channels = model.backbone.out_channels
    state = {rename(key, linear[0]): value for key, value in model.state_dict().items()}
    box = f"{_HEAD}.box_head"
    bins = model.roi_heads.box_roi_pool.output_size[0]
    if any(key.startswith(f"{box}.convs.") for key in state):
        modules = model.roi_heads.box_head.modules()
        convs = [layer for layer in modules if isinstance(layer, nn.Conv2d)]
        channels = convs[-1].out_channels
    state[f"{box}.hidden.0.weight"] = channels_last_columns(
        state[f"{box}.hidden.0.weight"], channels, bins
    )
    for part in ("weight", "bias"):  # torchvision puts the background first, densekit last
        logits = state[f"{box}.logits.{part}"]
        state[f"{box}.logits.{part}"] = logits.roll(-1, 0)
        state[f"{box}.deltas.{part}"] = state[f"{box}.deltas.{part}"][4:]
    return state


def channels_last_columns(weight: Tensor, channels: int, bins: int) -> Tensor:
    """Reorders columns of the first linear layer from (channel, row, column) to channels last."""
    return weight.view(-1, channels, bins * bins).transpose(1, 2).flatten(1)
