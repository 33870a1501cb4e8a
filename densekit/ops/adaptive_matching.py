"""Assignment of objects to anchors by a threshold of each object's own (ATSS), in bounded memory.

Shape letters: B images, T target slots, t of one chunk, A anchors of all levels (A_l of one), C
candidates of an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.ops.boxes import box_area
from densekit.ops.matching import NEGATIVE, POSITIVE, chunks


@dataclass(frozen=True)
class AdaptiveRule:
    """When an anchor belongs to an object (Zhang et al., "ATSS", 2020, section 3.1, algorithm 1).

    Attributes:
        candidates: Number of anchors per level, those with the nearest centres, among which an
            object's are chosen.
        margin: Pixels by which an anchor's centre lies inside its object, at least.
    """

    candidates: int = 9
    margin: float = 0.01


def match_adaptively(
    gt: Tensor, valid: Tensor, levels: Sequence[Tensor], rule: AdaptiveRule
) -> tuple[Tensor, Tensor]:
    """Finds the object of each anchor.

    Of an object's candidates those are positive whose IoU with it is at least the mean plus the
    standard deviation over the candidates; of several objects an anchor belongs to that of the
    largest IoU.

    Args:
        gt: (B, T, 4) boxes of the objects.
        valid: (B, T) bool, which slots hold an object.
        levels: Anchors (A_l, 4) of each level.
        rule: Limits.

    Returns:
        The index of each anchor's object, (B, A) int64 (the first one of equal IoU), and the label
        of each anchor, (B, A) int8: `POSITIVE` or `NEGATIVE`.
    """
    anchors = torch.cat(list(levels))
    near = _nearest(gt, levels, rule.candidates)  # (B, T, C)
    candidates = anchors[near]
    iou = _paired_iou(gt[..., None, :], candidates)  # (B, T, C)
    threshold = iou.mean(-1) + iou.std(-1)
    positive = (iou >= threshold[..., None]) & valid[..., None]
    positive &= _centre_inside(gt[..., None, :], candidates) > rule.margin

    near, iou = near.flatten(1), torch.where(positive, iou, -1.0).flatten(1)  # (B, T C)
    best = iou.new_full((len(gt), len(anchors)), -1.0).scatter_reduce(1, near, iou, "amax")
    last = gt.shape[1] - 1
    owner = torch.arange(gt.shape[1], device=gt.device)[:, None].expand_as(positive[0]).flatten()
    owner = torch.where(iou == best.gather(1, near), owner, last)
    index = torch.full_like(best, last, dtype=torch.int64)
    index = index.scatter_reduce(1, near, owner, "amin")
    return index, torch.where(best >= 0, POSITIVE, NEGATIVE).to(torch.int8)


def _nearest(gt: Tensor, levels: Sequence[Tensor], count: int) -> Tensor:
    """Indices (B, T, C) of the anchors of each level whose centres are nearest to each object's."""
    found, start = [], 0
    for anchors in levels:
        parts = [
            _distances(gt[:, chunk], anchors).topk(min(count, len(anchors)), largest=False).indices
            for chunk in chunks(gt.shape[1], len(anchors) * 2, gt.shape[0])
        ]
        found.append(torch.cat(parts, 1) + start)
        start += len(anchors)
    return torch.cat(found, 2)


def _distances(gt: Tensor, anchors: Tensor) -> Tensor:
    """Squared distances (B, t, A_l) of the centres."""
    shift = _centre(gt)[:, :, None] - _centre(anchors)
    return shift.square().sum(-1)


def _centre(boxes: Tensor) -> Tensor:
    return 0.5 * (boxes[..., :2] + boxes[..., 2:])


def _paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each pair of boxes (..., 4), as (...)."""
    near, far = torch.maximum(a, b)[..., :2], torch.minimum(a, b)[..., 2:]
    inter = (far - near).clamp(min=0).prod(-1)
    return inter / (box_area(a) + box_area(b) - inter)


def _centre_inside(gt: Tensor, anchors: Tensor) -> Tensor:
    """Distance (...) from the centre of each anchor to the nearest side of its object."""
    centre = _centre(anchors)
    return torch.minimum(centre - gt[..., :2], gt[..., 2:] - centre).amin(-1)
