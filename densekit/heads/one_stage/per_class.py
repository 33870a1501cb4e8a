"""Selection of detections whose classes are searched one by one, as SSD does.

Shape letters: B images, A boxes, K classes, M candidates of a class, D detections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.heads.one_stage.rules import MultiBoxDetectionRule
from densekit.ops.boxes import clip_boxes
from densekit.ops.nms import Backend, nms_keep
from densekit.types import Predictions


def select_per_class(
    scores: Tensor,
    boxes: Tensor,
    size: Tensor,
    rule: MultiBoxDetectionRule,
    backend: Backend | None = None,
) -> Predictions:
    """Applies the score threshold and NMS within each class.

    Args:
        scores: Probabilities (B, A, K).
        boxes: (B, A, 4).
        size: (B, 2) height and width of the images.
        rule: Thresholds and limits.
        backend: See `densekit.ops.nms`; chosen by the device by default.

    Returns:
        boxes (B, D, 4), scores, labels and valid (B, D), by descending score.
    """
    images, count, classes = scores.shape
    boxes = clip_boxes(boxes, size)
    score, index = scores.transpose(1, 2).topk(min(rule.per_class, count), 2)  # (B, K, M)
    score, index = score.flatten(0, 1), index.flatten(1)  # (B K, M), (B, K M)
    found = boxes.gather(1, index[..., None].expand(-1, -1, 4))  # (B, K M, 4)
    each = found.unflatten(1, (classes, -1)).flatten(0, 1)  # (B K, M, 4)
    valid = (score > rule.score_threshold) & each.isfinite().all(-1)
    keep = nms_keep(each, valid, rule.nms_iou, backend=backend)
    score = torch.where(keep, score, -1.0).view(images, -1)
    score, best = score.sort(dim=1, descending=True, stable=True)
    score, best = score[:, : rule.max_detections], best[:, : rule.max_detections]
    return {
        "boxes": found.gather(1, best[..., None].expand(-1, -1, 4)),
        "scores": score.clamp(min=0),
        "labels": best // (index.shape[1] // classes),
        "valid": score > 0,
    }
