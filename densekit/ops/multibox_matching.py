"""Assignment of objects to SSD's default boxes, batched and in bounded memory.

Shape letters: B images, T target slots, t of one chunk, A default boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.ops.matching import NEGATIVE, POSITIVE, chunks, iou_table


def match_multibox(
    gt: Tensor, valid: Tensor, boxes: Tensor, positive_iou: float
) -> tuple[Tensor, Tensor]:
    """Finds the object of each default box (Liu et al., "SSD", 2016, section 2.2).

    Each object has the box that overlaps it most, whatever that box's other objects; where two
    have the same one, the later has it (torchvision). Any other box belongs to the object that it
    overlaps most, if their IoU is at least `positive_iou`.

    Args:
        gt: (B, T, 4) boxes of the objects.
        valid: (B, T) bool, which slots hold an object.
        boxes: (A, 4).
        positive_iou: See above.

    Returns:
        The index of each box's object, (B, A) int64, and the label of each box, (B, A) int8:
        `POSITIVE` or `NEGATIVE`.
    """
    images, targets = valid.shape
    boxes = boxes.expand(images, -1, 4)
    best = boxes.new_full(boxes.shape[:2], -1.0)  # (B, A)
    index = torch.zeros_like(best, dtype=torch.int64)
    claimed = torch.full_like(index, -1)
    for chunk in chunks(targets, boxes.shape[1], images):
        iou = iou_table(gt[:, chunk], valid[:, chunk], boxes)  # (B, t, A)
        value, position = iou.max(1)
        index = torch.where(value > best, position + chunk.start, index)
        best = torch.maximum(best, value)
        top, place = iou.max(2)  # (B, t)
        slot = torch.arange(targets, device=gt.device)[chunk].expand_as(place)
        # an object without any overlap claims none
        slot = torch.where(top > 0, slot, -1)
        claimed = claimed.scatter_reduce(1, place, slot, "amax")
    positive = (best >= positive_iou) | (claimed >= 0)
    index = torch.where(claimed >= 0, claimed, index)
    return index, torch.where(positive, POSITIVE, NEGATIVE).to(torch.int8)
