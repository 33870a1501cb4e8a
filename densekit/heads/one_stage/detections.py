"""Selection of a fixed number of detections from the class scores and boxes of anchors.

Shape letters: B images, A anchors of one level, K classes, M candidates, D detections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.ops.boxes import at_least, clip_boxes, decode_boxes
from densekit.ops.nms import Backend, nms_keep
from densekit.types import Predictions


class Candidates(NamedTuple):
    """Pairs of an anchor and a class: scores and labels (B, M), deltas and anchors (B, M, 4)."""

    scores: Tensor
    labels: Tensor
    deltas: Tensor
    anchors: Tensor


Decode = Callable[[Tensor, Tensor], Tensor]
"""Deltas and anchors (..., 4) to boxes (..., 4)."""


def best_of_level(scores: Tensor, deltas: Tensor, anchors: Tensor, count: int) -> Candidates:
    """Selects the best pairs of one level, by descending score.

    The best `count` pairs belong to the `count` anchors whose best class is best, so that only
    these are searched.

    Args:
        scores: (B, A, K); logits do as well, and remain such.
        deltas: (B, A, 4).
        anchors: (A, 4).
        count: Most pairs.

    Returns:
        M = min(count, A K) candidates.
    """
    num_classes = scores.shape[2]
    count = min(count, scores.shape[1] * num_classes)
    rows = scores.amax(2).topk(min(count, scores.shape[1]), 1).indices  # (B, A')
    searched = scores.gather(1, rows[..., None].expand(-1, -1, num_classes)).flatten(1)
    value, pair = searched.topk(count, 1)  # (B, M)
    row = rows.gather(1, pair // num_classes)
    picked = deltas.gather(1, row[..., None].expand(-1, -1, 4))
    return Candidates(value, pair % num_classes, picked, anchors[row])


def select_dense(
    candidates: Candidates,
    size: Tensor,
    rule: DenseDetectionRule,
    decode: Decode = decode_boxes,
    backend: Backend | None = None,
) -> Predictions:
    """Applies the score threshold, box decoding and NMS within each class.

    Args:
        candidates: Of all levels, with scores of 0 to 1.
        size: (B, 2) height and width of the images.
        rule: Thresholds and limits.
        decode: How deltas move anchors.
        backend: See `densekit.ops.nms`; chosen by the device by default.

    Returns:
        boxes (B, D, 4), scores, labels and valid (B, D), by descending score.
    """
    score, order = candidates.scores.sort(dim=1, descending=True, stable=True)
    rows = order[..., None].expand(-1, -1, 4)
    label = candidates.labels.gather(1, order)
    boxes = decode(candidates.deltas.gather(1, rows), candidates.anchors.gather(1, rows))
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
