"""How far the predictions of two engines or precisions agree, from 0 to 1.

Shape letters: B images, N boxes, K classes, S the sizes of an image, E size of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.ops import box_iou

from densekit.types import Predictions

SAME_BOX = 0.9
"""Least IoU of two boxes that count as one."""
SAME_PLACE = 0.01
"""So do two whose sides are at most this many pixels apart: a box without area has no IoU."""


def agreement(expected: Mapping[str, Predictions], found: Mapping[str, Predictions]) -> float:
    """The agreement of the head that agrees least.

    Boxes: the share that have one of the same class with an IoU of at least 0.9 on the other side,
    or in the same place, of both sides together. Logits of pixels and probabilities: the share with
    the same class. Embeddings: the mean cosine. Any other tensor: whether it is close.

    Args:
        expected: Predictions by head.
        found: Those of another engine or precision.
    """
    return min(_of_head(expected[head], found[head]) for head in expected)


def _of_head(expected: Predictions, found: Predictions) -> float:
    if "boxes" in expected:
        return _boxes(expected, found)
    key = next(iter(expected))
    first, second = expected[key].float().cpu(), found[key].float().cpu()
    if first.shape != second.shape:
        return 0.0
    if key == "embedding":
        return float(torch.cosine_similarity(first, second).mean())
    if key.startswith("multilabel_") or (key == "logits" and first.shape[1] == 1):
        border = 0.0 if key.endswith("logits") else 0.5
        return _share((first > border) == (second > border))
    if key in ("logits", "probabilities"):
        return _share(first.argmax(1) == second.argmax(1))
    return float(torch.allclose(first, second, rtol=1e-2, atol=1e-3))


def _boxes(expected: Predictions, found: Predictions) -> float:
    matched = total = 0
    for image in range(len(expected["boxes"])):
        boxes, labels = _valid(expected, image)
        others, their_labels = _valid(found, image)
        apart = (boxes[:, None] - others).abs().amax(-1)
        same = (box_iou(boxes, others) >= SAME_BOX) | (apart <= SAME_PLACE)
        same &= labels[:, None] == their_labels
        matched += int(same.any(1).sum() + same.any(0).sum())
        total += len(boxes) + len(others)
    return matched / total if total else 1.0


def _valid(predictions: Predictions, image: int) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) and labels (N,) of one image."""
    valid = predictions["valid"][image]
    boxes, labels = (predictions[key][image][valid].cpu() for key in ("boxes", "labels"))
    return boxes.float(), labels


def _share(same: Tensor) -> float:
    return float(same.float().mean())
