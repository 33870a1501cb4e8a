"""Hard negative mining of SSD's loss.

Shape letters: B images, A default boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mined(loss: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """Returns each image's sum over its positive boxes and its hardest negatives, (B,).

    Liu et al., "SSD: Single Shot MultiBox Detector", 2016, section 2.2: the negatives with the
    largest loss, at most `ratio` times as many as positives. An image without a positive box has
    no negative either. Where it has too few negatives all of them count; torchvision then counts
    positives twice.

    Args:
        loss: (B, A).
        positive: (B, A) bool.
        negative: (B, A) bool; boxes that are neither do not count.
        ratio: Negatives per positive.
    """
    count = ratio * positive.sum(1, keepdim=True)  # (B, 1)
    hardest = loss.masked_fill(~negative, -math.inf).sort(1, descending=True).values
    rank = torch.arange(loss.shape[1], device=loss.device)
    kept = (rank < count) & hardest.isfinite()
    return (loss * positive).sum(1) + torch.where(kept, hardest, 0.0).sum(1)
