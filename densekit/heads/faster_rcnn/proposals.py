"""Selection of a fixed number of proposals from dense RPN outputs.

Shape letters: B images, L levels, A_l anchors of a level, k anchors kept per level, P proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densekit.ops.boxes import DeltaWeights, at_least, clip_boxes, decode_boxes
from densekit.ops.nms import Backend, nms_keep


class Proposals(NamedTuple):
    """Boxes (B, P, 4) float32 by descending score, 0 in empty rows; and validity (B, P) bool."""

    boxes: Tensor
    valid: Tensor


def best_of_levels(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    pre_nms: int,
    delta_weights: DeltaWeights,
) -> tuple[Tensor, Tensor]:
    """Selects the best anchors of each level and decodes only those.

    Args:
        logits: (B, A_l) per level.
        deltas: (B, A_l, 4) per level.
        anchors: (A, 4) of all levels.
        pre_nms: Most anchors kept per level.
        delta_weights: See `decode_boxes`.

    Returns:
        Logits (B, L, k), -inf where a level has fewer anchors, and boxes (B, L, k, 4).
    """
    per_level = anchors.split([level.shape[1] for level in logits])
    width = min(pre_nms, max(level.shape[1] for level in logits))
    top_logits, top_boxes = [], []
    for level, delta, anchor in zip(logits, deltas, per_level, strict=True):
        exact = level.to(torch.promote_types(level.dtype, torch.float32))
        score, row = exact.topk(min(pre_nms, level.shape[1]), 1)
        picked = delta.gather(1, row[..., None].expand(-1, -1, 4))
        box = decode_boxes(picked, anchor[row], delta_weights)
        pad = width - score.shape[1]
        top_logits.append(torch.nn.functional.pad(score, (0, pad), value=-torch.inf))
        top_boxes.append(torch.nn.functional.pad(box, (0, 0, 0, pad)))
    return torch.stack(top_logits, 1), torch.stack(top_boxes, 1)


def select_proposals(
    logits: Tensor,
    boxes: Tensor,
    size: Tensor,
    post_nms: int,
    nms_iou: float,
    min_size: float,
    backend: Backend | None = None,
) -> Proposals:
    """Clips boxes, applies NMS within each level and keeps the best of all levels.

    Args:
        logits: (B, L, k), descending.
        boxes: (B, L, k, 4).
        size: (B, 2) height and width of the images.
        post_nms: P.
        nms_iou: See `nms_keep`.
        min_size: Smallest side in pixels.
        backend: See `nms_keep`.
    """
    boxes = clip_boxes(boxes, size)
    valid = at_least(boxes, min_size) & (logits > -torch.inf)
    keep = nms_keep(boxes.flatten(0, 1), valid.flatten(0, 1), nms_iou, backend=backend)
    # ranked by the sigmoid, like the references: distinct logits can tie after it
    score = torch.where(keep.view_as(valid), logits.sigmoid(), -1.0).flatten(1)
    score, order = score.sort(dim=1, descending=True, stable=True)
    score, order = score[:, :post_nms], order[:, :post_nms]
    best = boxes.flatten(1, 2).gather(1, order[..., None].expand(-1, -1, 4))
    valid = score >= 0
    # the boxes of a NaN image are NaN, and RoI pooling does not skip invalid rows
    return Proposals(torch.where(valid[..., None], best, 0.0), valid)
