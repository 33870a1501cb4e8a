"""Selection of a fixed number of detections from class scores and box deltas.

Shape letters: B images, P proposals, K classes, M candidates, D detections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.heads.faster_rcnn.rules import DetectionRule
from densekit.ops.boxes import DeltaWeights, at_least, clip_boxes, decode_boxes
from densekit.ops.nms import Backend, default_backend, nms_keep
from densekit.types import Predictions


def _top(score: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and indices (B, count) of the largest of each row, ties by index."""
    index = score.topk(count, 1).indices.sort(dim=1).values
    value, order = score.gather(1, index).sort(dim=1, descending=True, stable=True)
    return value, index.gather(1, order)


def select_detections(
    logits: Tensor,
    deltas: Tensor,
    proposals: Proposals,
    size: Tensor,
    rule: DetectionRule,
    delta_weights: DeltaWeights,
    backend: Backend | None = None,
) -> Predictions:
    """Applies softmax, the score threshold, box decoding and NMS within each class.

    The ragged back end considers every (box, class) pair above the threshold, the static one and
    compiled programs at most `rule.candidates` of them; the results are equal while `overflow` is
    false.

    Args:
        logits: (B, P, K + 1), background last.
        deltas: (B, P, K, 4), or (B, P, 1, 4) that all classes share.
        proposals: Boxes (B, P, 4).
        size: (B, 2) height and width of the images.
        rule: Thresholds and limits.
        delta_weights: See `decode_boxes`.
        backend: See `densekit.ops.nms`; chosen by the device by default.

    Returns:
        boxes (B, D, 4), scores (B, D), labels (B, D), valid (B, D) and overflow (B,).
    """
    backend = backend or default_backend(logits.device)
    fixed = backend == "static" or torch.compiler.is_compiling()
    num_classes = logits.shape[2] - 1
    score = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)[..., :-1]
    passes = (score > rule.score_threshold) & proposals.valid[..., None]
    score = torch.where(passes, score, 0).flatten(1)  # (B, P K)
    passing = passes.flatten(1).sum(1)
    count = rule.candidates if fixed else max(rule.max_detections, int(passing.max()))
    score, index = _top(score, min(count, score.shape[1]))  # (B, M)
    label = index % num_classes
    row = index // num_classes
    start = proposals.boxes.gather(1, row[..., None].expand(-1, -1, 4))
    own = row if deltas.shape[2] == 1 else index
    delta = deltas.flatten(1, 2).gather(1, own[..., None].expand(-1, -1, 4))
    boxes = clip_boxes(decode_boxes(delta, start, delta_weights), size)
    valid = (score > 0) & at_least(boxes, rule.min_size)
    keep = nms_keep(boxes, valid, rule.nms_iou, label, backend)
    score, order = torch.where(keep, score, -1.0).sort(dim=1, descending=True, stable=True)
    score, order = score[:, : rule.max_detections], order[:, : rule.max_detections]
    return {
        "boxes": boxes.gather(1, order[..., None].expand(-1, -1, 4)),
        "scores": score.clamp(min=0),
        "labels": label.gather(1, order),
        "valid": score > 0,
        "overflow": passing > count,
    }
