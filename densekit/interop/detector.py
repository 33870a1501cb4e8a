"""What the layouts of detectors share: the parts of a model found in its tensors, class names.

The functions named `*_of` take the tensors by densekit's names, before their values are changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.heads import FasterRCNN
from densekit.heads.faster_rcnn import DetectionRule, PoolRule
from densekit.interop.conversion import COUNTER, class_names
from densekit.interop.resnet_tensors import resnet_of_tensors
from densekit.interop.torchvision_detection import channels_last_columns
from densekit.necks import FPN

HEAD = "detection"
RPN_HEAD, BOX_HEAD = f"heads.{HEAD}.rpn", f"heads.{HEAD}.box_head"
COCO_CLASSES = 80


def resnet_of(where: str, ours: Mapping[str, Tensor]) -> partial[ResNet]:
    """The constructor of the backbone; the stem and c2 are frozen, as is customary.

    Its norm is constant if the tensors have no counters.
    """
    start = "backbone."
    body = {name[len(start) :]: value for name, value in ours.items() if name.startswith(start)}
    norm = "batch" if any(name.endswith(COUNTER) for name in body) else "frozen"
    return resnet_of_tensors(where, body, norm=norm, freeze_stages=2)


def pyramid_of(ours: Mapping[str, Tensor]) -> partial[FPN]:
    """The constructor of the neck."""
    norm = "batch" if "neck.lateral.c5.1.weight" in ours else None
    return partial(FPN, out_channels=_channels(ours), norm=norm)


def faster_rcnn_of(
    ours: Mapping[str, Tensor], preset: Mapping[str, Any], detection: DetectionRule
) -> tuple[partial[FasterRCNN], dict[str, Any]]:
    """The constructor of a Faster R-CNN, and how its tensors change.

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
    head = partial(
        FasterRCNN,
        num_classes=len(ours[f"{BOX_HEAD}.logits.weight"]) - 1,
        rpn=partial(preset["rpn"], depth=len(_rows(ours, rf"{RPN_HEAD}\.convs\.\d+\.weight"))),
        box_head=box_head,
        detection=detection,
    )
    return head, {first: partial(channels_last_columns, channels=channels, bins=bins)}


def _channels(ours: Mapping[str, Tensor]) -> int:
    return len(ours["neck.lateral.c5.0.weight"])


def _rows(ours: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Output channels of each layer whose weight has such a name, in order."""
    return [len(ours[name]) for name in sorted(ours) if re.fullmatch(pattern, name)]


def described_classes(names: Sequence[str] | None, count: int) -> tuple[dict[str, Any], list[str]]:
    """The entry of `info["heads"]` of a detector's classes, and what was assumed for it.

    Args:
        names: Their names; with None those of COCO if there are 80, else numbers.
        count: Number of classes.
    """
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
            f"{where}: expected a detector of boxes alone, got {' and '.join(found.values())};"
            f" leave=[{','.join(found)}] converts the boxes"
        )
