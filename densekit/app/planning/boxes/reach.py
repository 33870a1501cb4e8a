"""Which objects a head's anchors or points reach, by its own matching.

N images, M objects of all images.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from densekit.data.box_fingerprint import BoxFingerprint
from densekit.heads.base import Head
from densekit.ops.matching import MatchRule
from densekit.ops.resize import ResizeRule, resized_size
from densekit.types import Batch


def resized(sizes: NDArray[np.int64], rule: ResizeRule | None) -> NDArray[np.int64]:
    """(N, 2) sizes of images as the network sees them."""
    if rule is None:
        return sizes
    return np.asarray([resized_size(int(h), int(w), rule) for h, w in sizes])


def scales(found: BoxFingerprint, rule: ResizeRule | None) -> NDArray[np.float64]:
    """(N,) by which the sides of each image are multiplied."""
    ratio: NDArray[np.float64] = (resized(found.sizes, rule) / found.sizes).mean(1)
    return ratio


def reached(
    head: Head, found: BoxFingerprint, rule: ResizeRule | None, divisor: int
) -> NDArray[np.bool_] | None:
    """(M,) which objects some anchor or point is trained towards; None for a head without any.

    Args:
        head: On any device.
        found: Of the data set.
        rule: How images are resized.
        divisor: What sides are padded to a multiple of.
    """
    result = np.zeros(len(found.boxes), dtype=bool)
    sizes, scale = resized(found.sizes, rule), scales(found, rule)
    for image in np.unique(found.image_of):
        rows = found.image_of == image
        boxes = torch.from_numpy(found.boxes[rows] * scale[image]).float()[None]
        padded = tuple(int(side) + -int(side) % divisor for side in sizes[image])
        batch = Batch(boxes=boxes, boxes_valid=torch.ones(boxes.shape[:2], dtype=torch.bool))
        beyond = head.unreached(batch, (padded[0], padded[1]))
        if beyond is None:
            return None
        result[rows] = ~beyond[0].numpy()
    return result


def without_claims(head: nn.Module) -> bool:
    """Drops the rule that every object claims its best anchors; whether the head has it."""
    changed = False
    for module in head.modules():
        rule = getattr(module, "matching", None)
        if isinstance(rule, MatchRule) and rule.low_quality:
            module.matching = replace(rule, low_quality=False)  # type: ignore[assignment]
            changed = True
    return changed
