"""Triplet loss.

G embeddings, E their size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.miners import BatchHard, Miner
from densekit.losses.pairs import masked_mean, pair_masks


class Triplet(nn.Module):
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over mined triplets.

    Schroff, Kalenichenko and Philbin 2015, "FaceNet", equation 2, with d the squared Euclidean
    distance on the unit sphere, in 0..4. Triplets with a loss of 0 count in the mean.

    Args:
        margin: Margin of the squared distance, above 0.
        miner: Selects the triplets, default `BatchHard()`.

    Raises:
        ValueError: The margin is not above 0.
    """

    def __init__(self, margin: float = 0.2, miner: Miner | None = None) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"Triplet.margin: expected a number above 0, got {margin}")
        self.margin = margin
        self.miner = miner or BatchHard()

    def forward(self, embedding: Tensor, identity: Tensor, valid: Tensor) -> Tensor:
        """Returns the scalar loss; without any triplet it is 0, with zero gradients.

        Args:
            embedding: (G, E) of unit length.
            identity: (G,) int64.
            valid: (G,) bool.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            distance = (2 - 2 * embedding @ embedding.T).clamp(min=0)  # (G, G)
        mined = self.miner(distance, *pair_masks(identity, valid))
        return masked_mean((mined.positive - mined.negative + self.margin).relu(), mined.valid)
