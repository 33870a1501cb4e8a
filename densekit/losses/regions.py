"""Soft counts of hits and errors per class, from which Dice, Tversky and similar are computed.

B images, K classes (without the background if it is left out), P pixels of an image; R regions: B,
or 1 if the images are pooled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densekit.losses.targets import (
    counted,
    exclusive,
    flatten,
    members,
    probabilities,
    recomputed,
)
from densekit.ops.dist import global_count, global_sum

SMOOTH = 1e-5
"""Added to numerator and denominator as in nnU-Net and MONAI; 0 / 0 is a perfect score."""


class Regions(NamedTuple):
    """Sums over the counted pixels of a region.

    Attributes:
        hit: (R, K) probabilities summed over the pixels of the class.
        pred: (R, K) probabilities, or their squares, summed over all pixels.
        truth: (R, K) number of pixels of the class.
        pixels: (R, K) number of counted pixels.
    """

    hit: Tensor
    pred: Tensor
    truth: Tensor
    pixels: Tensor

    @property
    def missed(self) -> Tensor:
        """Soft false negatives (R, K)."""
        return self.truth - self.hit

    @property
    def wrong(self) -> Tensor:
        """Soft false positives (R, K)."""
        return self.pred - self.hit


def measure(
    logits: Tensor, mask: Tensor, *, batch: bool, include_background: bool, squared: bool = False
) -> Regions:
    """Computes the sums of a batch.

    Args:
        logits: (B, K, *S).
        mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        batch: Whether to pool the images of all processes into one region.
        include_background: Whether class 0 of a multi-class mask is one of the K.
        squared: Whether `pred` sums squared probabilities.
    """
    logits, mask = flatten(logits, mask)
    first = 1 if exclusive(logits, mask) and not include_background else 0

    def soft_sums(logits: Tensor, mask: Tensor) -> Tensor:
        prob = probabilities(logits, mask)[:, first:]  # (B, K, P)
        hit = (prob * members(logits, mask)[:, first:]).sum(-1)
        power = prob.square() if squared else prob
        return torch.stack([hit, (power * counted(mask)).sum(-1)])  # (2, B, K)

    soft = recomputed(soft_sums, logits, mask)
    truth = members(logits, mask)[:, first:].sum(-1)  # (B, K)
    pixels = counted(mask).sum(-1).expand_as(truth)
    sums = torch.cat([soft, torch.stack([truth, pixels]).to(soft.dtype)])  # (4, B, K)
    return Regions(*(global_sum(sums.sum(1, keepdim=True)) if batch else sums))


def mean_over(loss: Tensor, pixels: Tensor) -> Tensor:
    """Returns the mean, over all processes, of the terms with a counted pixel; 0 without any.

    Args:
        loss: Terms of any shape.
        pixels: Number of counted pixels of each term.
    """
    seen = pixels > 0
    return (loss * seen).sum() / global_count(seen.sum())
