"""How much of each class was hit: the sums that Dice, Tversky and their kin are made of.

B images, K classes (without the background if it is left out), P pixels of an image; R regions are
B, or 1 where the images are pooled.
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
"""Added to both sides of a score, as nnU-Net and MONAI do: nothing found of nothing is perfect."""


class Regions(NamedTuple):
    """Sums over the counted pixels of a region.

    Attributes:
        hit: (R, K) probability on pixels of the class.
        pred: (R, K) probability, or its square, on all pixels.
        truth: (R, K) pixels of the class.
        pixels: (R, K) pixels counted.
    """

    hit: Tensor
    pred: Tensor
    truth: Tensor
    pixels: Tensor

    @property
    def missed(self) -> Tensor:
        """(R, K) soft false negatives."""
        return self.truth - self.hit

    @property
    def wrong(self) -> Tensor:
        """(R, K) soft false positives."""
        return self.pred - self.hit


def measure(
    logits: Tensor, mask: Tensor, *, batch: bool, include_background: bool, squared: bool = False
) -> Regions:
    """The sums of a batch.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) or (B, K, *S), 255 where nothing is counted.
        batch: Pool the images, those of all processes together, into one region.
        include_background: Whether class 0 of a multi-class mask is one of the K.
        squared: Sum squared probabilities in `pred`.
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
    """Mean of the terms that saw a pixel, over all processes; 0 if none did.

    Args:
        loss: Terms of any shape.
        pixels: How many pixels each counted, in the same shape.
    """
    seen = pixels > 0
    return (loss * seen).sum() / global_count(seen.sum())
