"""Selection of a fixed number of detections from dense class scores and box deltas.

Shape letters: B images, A anchors of one level, K classes, M candidates, D detections.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.ops.boxes import at_least, clip_boxes, decode_boxes
from densekit.ops.nms import Backend, nms_keep
from densekit.types import Predictions


class Candidates(NamedTuple):
    """Pairs of an anchor and a class: logits and labels (B, M), deltas and anchors (B, M, 4)."""

    logits: Tensor
    labels: Tensor
    deltas: Tensor
    anchors: Tensor


def best_of_level(logits: Tensor, deltas: Tensor, anchors: Tensor, count: int) -> Candidates:
    """Selects the best pairs of one level, by descending logit.

    The best `count` pairs belong to the `count` anchors whose best class is best, so that only
    these are searched.

    Args:
        logits: (B, A, K).
        deltas: (B, A, 4).
        anchors: (A, 4).
        count: Most pairs.

    Returns:
        M = min(count, A K) candidates.
    """
    num_classes = logits.shape[2]
    count = min(count, logits.shape[1] * num_classes)
    rows = logits.amax(2).topk(min(count, logits.shape[1]), 1).indices  # (B, A')
    searched = logits.gather(1, rows[..., None].expand(-1, -1, num_classes)).flatten(1)
    value, pair = searched.topk(count, 1)  # (B, M)
    row = rows.gather(1, pair // num_classes)
    picked = deltas.gather(1, row[..., None].expand(-1, -1, 4))
    return Candidates(value, pair % num_classes, picked, anchors[row])


def select_dense(
    candidates: Candidates, size: Tensor, rule: DenseDetectionRule, backend: Backend | None = None
) -> Predictions:
    """Applies sigmoid, the score threshold, box decoding and NMS within each class.

    Args:
        candidates: Of all levels.
        size: (B, 2) height and width of the images.
        rule: Thresholds and limits.
        backend: See `densekit.ops.nms`; chosen by the device by default.

    Returns:
        boxes (B, D, 4), scores, labels and valid (B, D), by descending score.
    """
    score = candidates.logits.to(torch.promote_types(candidates.logits.dtype, torch.float32))
    score, order = score.sigmoid().sort(dim=1, descending=True, stable=True)
    rows = order[..., None].expand(-1, -1, 4)
    label = candidates.labels.gather(1, order)
    boxes = decode_boxes(candidates.deltas.gather(1, rows), candidates.anchors.gather(1, rows))
    valid = (score > rule.score_threshold) & boxes.isfinite().all(-1)
    clipped = clip_boxes(boxes, size)
    keeps_area = at_least(clipped, 0.0) if rule.drop_empty else torch.ones_like(valid)
    if rule.clip_first:
        boxes, valid = clipped, valid & keeps_area
    keep = nms_keep(boxes, valid, rule.nms_iou, label, backend)
    score, best = torch.where(keep, score, -1.0).sort(dim=1, descending=True, stable=True)
    score, best = score[:, : rule.max_detections], best[:, : rule.max_detections]
    valid = (score > 0) & keeps_area.gather(1, best)
    score, moved = torch.where(valid, score, 0.0).sort(dim=1, descending=True, stable=True)
    best = best.gather(1, moved)
    return {
        "boxes": clipped.gather(1, best[..., None].expand(-1, -1, 4)),
        "scores": score,
        "labels": label.gather(1, best),
        "valid": valid.gather(1, moved),
    }
