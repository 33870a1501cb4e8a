"""Triplet mining: selection of the triplets of a batch that enter the loss.

G embeddings, M mined pairs of a positive and a negative.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Mined(NamedTuple):
    """Distances of anchors to a positive and a negative.

    Attributes:
        positive: (M,).
        negative: (M,).
        valid: (M,) bool, false where an anchor lacks one of them.
    """

    positive: Tensor
    negative: Tensor
    valid: Tensor


class Miner(Protocol):
    """Selects triplets by their distances."""

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """Returns the selected triplets.

        Args:
            distance: (G, G).
            positive: (G, G) bool, pairs of one identity, false on the diagonal.
            negative: (G, G) bool, pairs of two identities.
        """


class BatchHard:
    """Takes the farthest positive and the nearest negative of every anchor.

    Hermans, Beyer and Leibe 2017, "In defense of the triplet loss", equation 5.
    """

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """Returns G triplets; see `Miner`."""
        farthest = distance.masked_fill(~positive, -1.0).amax(1)
        nearest = distance.masked_fill(~negative, float("inf")).amin(1)
        valid = positive.any(1) & negative.any(1)
        return Mined(farthest, nearest.where(valid, farthest), valid)


class SemiHard:
    """Takes, for every positive pair, the nearest negative that is farther than the positive.

    Schroff, Kalenichenko and Philbin 2015, "FaceNet", equation 4. A pair whose negatives are all
    nearer is left out.
    """

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """Returns G * G triplets; see `Miner`."""
        ascending = distance.masked_fill(~negative, float("inf")).sort(1).values  # (G, G)
        index = torch.searchsorted(ascending.detach(), distance.detach(), right=True)
        valid = positive & (index < negative.sum(1, keepdim=True))
        nearest = ascending.gather(1, index.clamp(max=len(distance) - 1)).where(valid, distance)
        return Mined(distance.flatten(), nearest.flatten(), valid.flatten())
