"""What the layouts of detectors share: the parts of a model found in its tensors, class names.

The functions named `*_of` take the tensors by densekit's names, before their values are changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.heads import FasterRCNN, MaskRCNN, RetinaNet
from densekit.heads.faster_rcnn import DetectionRule, MaskHead, PoolRule
from densekit.interop.conversion import COUNTER, abridged, class_names
from densekit.interop.resnet_tensors import resnet_of_tensors
from densekit.interop.torchvision_detection import channels_last_columns
from densekit.necks import FPN

HEAD = "detection"
ANCHORS = 9
"""Of a cell of RetinaNet."""
NAMES = {FasterRCNN: "Faster R-CNN", MaskRCNN: "Mask R-CNN", RetinaNet: "RetinaNet"}
_HEAD = f"heads.{HEAD}"
RPN_HEAD, BOX_HEAD, MASK_HEAD = f"{_HEAD}.rpn", f"{_HEAD}.box_head", f"{_HEAD}.mask_head"
COCO_CLASSES = 80


@dataclass(frozen=True)
class DetectorSettings:
    """What a library's configuration says and a detector's tensors do not.

    With None it is the library's default.

    Attributes:
        stride_in_1x1: Whether a bottleneck's stride is in its first convolution (Caffe's style).
        channel_order: "rgb" or "bgr".
        mean: Of the pixels in 0..255, in the order of the channels.
        std: As `mean`.
        min_size: Length to which the shorter side of an image is resized.
        max_size: Limit of the longer side.
        score_threshold: Detections score above it.
        nms_iou: Detections of one class overlap by at most this.
        max_detections: Most detections per image.
    """

    stride_in_1x1: bool | None = None
    channel_order: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    min_size: int = 800
    max_size: int = 1333
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100

    def completed(self, **defaults: Any) -> DetectorSettings:
        """The same settings with a library's defaults in place of None."""
        return replace(self, **{k: v for k, v in defaults.items() if getattr(self, k) is None})

    def detection(self) -> DetectionRule:
        """The rule of a two-stage head's detections."""
        return DetectionRule(self.score_threshold, self.nms_iou, self.max_detections, min_size=0.0)

    def info(
        self, names: Sequence[str] | None, num_classes: int, antialias: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """The `info` of a model with these settings, and what was assumed, in words.

        Args:
            names: Class names; COCO's by default if there are 80 classes, else numbers.
            num_classes: Number of classes.
            antialias: See `densekit.ops.resize.ResizeRule`.
        """
        assert self.mean is not None
        assert self.std is not None
        described, coco = _described(names, num_classes)
        mean, std = list(self.mean), list(self.std)
        info = {
            "heads": {HEAD: described},
            "mean": mean,
            "std": std,
            "channel_order": self.channel_order,
            "channels": len(mean),
            "resize": {
                "min_size": self.min_size,
                "max_size": self.max_size,
                "antialias": antialias,
                "rounded": True,
            },
        }
        kernel = "1x1" if self.stride_in_1x1 else "3x3"
        assumed = [
            f"images are {str(self.channel_order).upper()}, of mean {mean} and std {std}, resized"
            f" to {self.min_size} and at most {self.max_size}",
            f"a bottleneck's stride is in its {kernel} convolution",
            f"detections score above {self.score_threshold}, overlap by at most {self.nms_iou},"
            f" and are at most {self.max_detections}",
        ]
        return info, [*assumed, *coco]


def resnet_of(where: str, ours: Mapping[str, Tensor], norm: str | None = None) -> partial[ResNet]:
    """The constructor of the backbone; the stem and c2 are frozen, as is customary.

    Args:
        where: Beginning of error messages.
        ours: Tensors.
        norm: Its norm; by default a constant one if the tensors have no counters.
    """
    start = "backbone."
    body = {name[len(start) :]: value for name, value in ours.items() if name.startswith(start)}
    if norm is None:
        norm = "batch" if any(name.endswith(COUNTER) for name in body) else "frozen"
    return resnet_of_tensors(where, body, norm=norm, freeze_stages=2)


def is_two_stage(where: str, ours: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a Faster R-CNN, or of a RetinaNet.

    Raises:
        ValueError: They are of neither, or have no pyramid.
    """
    if f"{BOX_HEAD}.logits.weight" in ours and "neck.lateral.c2.0.weight" in ours:
        return True
    if f"{_HEAD}.logits.weight" in ours and "neck.extra.p7.weight" in ours:
        return False
    raise ValueError(
        f"{where}: expected a Faster R-CNN or RetinaNet with a ResNet and FPN, got tensors"
        f" {abridged(list(ours))}"
    )


def pyramid_of(ours: Mapping[str, Tensor], extra: str = "pool") -> partial[FPN]:
    """The constructor of the neck.

    Args:
        ours: Tensors.
        extra: How p6 and p7 are made, see `FPN`.
    """
    norm = "batch" if "neck.lateral.c5.1.weight" in ours else None
    return partial(FPN, out_channels=_channels(ours), extra=extra, norm=norm)


def faster_rcnn_of(
    ours: Mapping[str, Tensor], preset: Mapping[str, Any], detection: DetectionRule
) -> tuple[partial[FasterRCNN], dict[str, Any]]:
    """The constructor of a Faster R-CNN, or Mask R-CNN, and how its tensors change.

    Args:
        ours: Tensors; the pooled bins are ordered by channel, row, column.
        preset: `rpn` and `box_head` as of `detectron2_preset`.
        detection: The thresholds.
    """
    convs = _rows(ours, rf"{BOX_HEAD}\.convs\.\d+\.0\.weight")
    channels = convs[-1] if convs else _channels(ours)
    first = f"{BOX_HEAD}.hidden.0.weight"
    bins = math.isqrt(ours[first].shape[1] // channels)
    box_head = partial(
        preset["box_head"],
        convs=convs,
        hidden=_rows(ours, rf"{BOX_HEAD}\.hidden\.\d+\.weight"),
        norm=nn.BatchNorm2d if f"{BOX_HEAD}.convs.0.1.weight" in ours else None,
        pool=PoolRule(bins, samples=0, aligned=True),
    )
    num_classes = len(ours[f"{BOX_HEAD}.logits.weight"]) - 1
    masks = _mask_head(ours, num_classes)
    head = partial(
        MaskRCNN if masks else FasterRCNN,
        num_classes=num_classes,
        rpn=partial(preset["rpn"], depth=len(_rows(ours, rf"{RPN_HEAD}\.convs\.\d+\.weight"))),
        box_head=box_head,
        detection=detection,
        **masks,
    )
    return head, {first: partial(channels_last_columns, channels=channels, bins=bins)}


def _mask_head(ours: Mapping[str, Tensor], num_classes: int) -> dict[str, Any]:
    """The argument of Mask R-CNN; none if there is no mask head.

    Raises:
        ValueError: It has not one mask per class.
    """
    if not has_masks(ours):
        return {}
    masks = len(ours[f"{MASK_HEAD}.logits.weight"])
    if masks != num_classes:
        raise ValueError(
            f"{MASK_HEAD}: expected a mask of each of {num_classes} classes, got {masks}, of a head"
            " whose masks are of no class"
        )
    with_norm = f"{MASK_HEAD}.convs.0.1.weight" in ours
    mask_head = partial(
        MaskHead,
        convs=_rows(ours, rf"{MASK_HEAD}\.convs\.\d+\.0\.weight"),
        norm=nn.BatchNorm2d if with_norm else None,
        pool=PoolRule(14, samples=0, aligned=True),
    )
    return {"mask_head": mask_head}


def has_masks(ours: Mapping[str, Tensor]) -> bool:
    """Whether a two-stage detector has a mask head."""
    return f"{MASK_HEAD}.logits.weight" in ours


def retinanet_of(
    ours: Mapping[str, Tensor], preset: Mapping[str, Any], settings: DetectorSettings
) -> partial[RetinaNet]:
    """The constructor of a RetinaNet of three sizes and three ratios per cell.

    Args:
        ours: Tensors.
        preset: As of `detectron2_retinanet`.
        settings: The thresholds.
    """
    detection = replace(
        preset["detection"],
        score_threshold=settings.score_threshold,
        nms_iou=settings.nms_iou,
        max_detections=settings.max_detections,
    )
    return partial(
        RetinaNet,
        num_classes=len(ours[f"{_HEAD}.logits.weight"]) // ANCHORS,
        depth=len(_rows(ours, rf"{_HEAD}\.cls_convs\.\d+\.0\.weight")),
        **{**preset, "detection": detection},
    )


def _channels(ours: Mapping[str, Tensor]) -> int:
    return len(ours["neck.lateral.c5.0.weight"])


def _rows(ours: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Output channels of each layer whose weight has such a name, in order."""
    return [len(ours[name]) for name in sorted(ours) if re.fullmatch(pattern, name)]


def _described(names: Sequence[str] | None, count: int) -> tuple[dict[str, Any], list[str]]:
    """The entry of `info["heads"]` of a detector's classes, and what was assumed for it."""
    if names is None and count == COCO_CLASSES:
        ids = coco_classes()
        entry = {"names": list(ids), "ids": list(ids.values()), "num_classes": count}
        return entry, ["the 80 classes are COCO's"]
    found = class_names(names, count)
    return {"names": found, "ids": list(range(1, count + 1)), "num_classes": count}, []


def coco_classes() -> dict[str, int]:
    """Name to id of COCO's 80 classes, in the order of the ids."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {name: i for i, name in enumerate(categories) if i and name != "N/A"}


def refuse_parts(where: str, state: Mapping[str, Tensor], parts: Mapping[str, str]) -> None:
    """Refuses modules that densekit does not have, with the way to leave them out.

    Args:
        where: Beginning of error messages.
        state: The source's tensors.
        parts: Name of a module of the source to what it is, in words.

    Raises:
        ValueError: The source has one of them.
    """
    found = {
        part: what
        for part, what in parts.items()
        if any(name.startswith(f"{part}.") for name in state)
    }
    if found:
        raise ValueError(
            f"{where}: expected a detector of boxes and masks alone, got"
            f" {' and '.join(found.values())}; leave=[{','.join(found)}] converts the rest"
        )
