"""Assignment of ground truth to boxes by IoU, batched and in bounded memory.

Shape letters: B images, T target slots, A boxes (anchors or proposals).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.ops.boxes import box_area, intersection

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
CHUNK_ELEMENTS = 1 << 25
"""Most values of one IoU table (B, t, A): 128 MiB in float32, whatever the number of objects."""


@dataclass(frozen=True)
class MatchRule:
    """When a box counts as an object, as background, or as neither.

    Attributes:
        positive_iou: Boxes with at least this IoU are positive.
        negative_iou: Boxes below this IoU are negative; those in between are ignored.
        low_quality: Whether the best boxes of each object are positive too, however low their IoU
            (Ren et al., "Faster R-CNN", 2015, section 3.1.2).
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.5
    low_quality: bool = False


def chunks(targets: int, boxes: int, images: int) -> list[slice]:
    """Returns slices of the targets whose tables (images, t, boxes) fit `CHUNK_ELEMENTS`."""
    step = max(1, CHUNK_ELEMENTS // max(1, boxes * images))
    return [slice(start, start + step) for start in range(0, targets, step)]


def iou_table(gt: Tensor, valid: Tensor, boxes: Tensor) -> Tensor:
    """Returns the IoU (B, t, A); -1 for empty target slots, so that they lose every maximum.

    Args:
        gt: (B, t, 4).
        valid: (B, t) bool, which slots hold an object.
        boxes: (B, A, 4).
    """
    inter = intersection(gt, boxes)
    union = (box_area(gt)[..., :, None] + box_area(boxes)[..., None, :]).sub_(inter)
    return inter.div_(union).masked_fill_(~valid[..., None], -1.0)


def match(gt: Tensor, valid: Tensor, boxes: Tensor, rule: MatchRule) -> tuple[Tensor, Tensor]:
    """Finds the best object of each box and labels the box.

    Args:
        gt: (B, T, 4) boxes of the objects.
        valid: (B, T) bool, which slots hold an object.
        boxes: (A, 4), the same for all images, or (B, A, 4).
        rule: Thresholds.

    Returns:
        The index of the best object, (B, A) int64 (the first one on ties), and the label of each
        box, (B, A) int8: `POSITIVE`, `NEGATIVE` or `IGNORED`.
    """
    boxes = boxes.expand(gt.shape[0], -1, 4)
    parts = chunks(gt.shape[1], boxes.shape[1], boxes.shape[0])
    best = boxes.new_full(boxes.shape[:2], -1.0)  # (B, A)
    index = torch.zeros_like(best, dtype=torch.int64)
    best_of_gt = []
    iou = best
    for chunk in parts:
        iou = iou_table(gt[:, chunk], valid[:, chunk], boxes)
        value, position = iou.max(1)
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, position + chunk.start, index)
        best_of_gt.append(iou.amax(2))  # (B, t)
    label = torch.where(best < rule.negative_iou, NEGATIVE, IGNORED)
    label = torch.where(best >= rule.positive_iou, POSITIVE, label)
    if rule.low_quality:
        for chunk, top in zip(parts, best_of_gt, strict=True):
            if len(parts) > 1:  # a single table is still there; several were too large to keep
                iou = iou_table(gt[:, chunk], valid[:, chunk], boxes)
            # an object without any overlap must not claim every box of IoU 0
            top = torch.where(top > 0, top, 2.0)
            label = torch.where((iou == top[..., None]).any(1), POSITIVE, label)
    return index, label.to(torch.int8)


def covered(boxes: Tensor, regions: Tensor, valid: Tensor, share: float = 0.5) -> Tensor:
    """Returns which boxes lie mostly inside a region without labels (COCO crowds).

    Args:
        boxes: (A, 4) or (B, A, 4).
        regions: (B, T, 4).
        valid: (B, T) bool, which slots hold a region.
        share: Share of a box's area that must be exceeded inside one region.

    Returns:
        (B, A) bool.
    """
    boxes = boxes.expand(regions.shape[0], -1, 4)
    result = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for chunk in chunks(regions.shape[1], boxes.shape[1], boxes.shape[0]):
        inside = intersection(regions[:, chunk], boxes) > share * box_area(boxes)[:, None]
        result |= (inside & valid[:, chunk, None]).any(1)
    return result
