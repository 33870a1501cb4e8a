"""Triplet loss.

G embeddings, E their size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.miners import BatchHard, Miner
from densekit.losses.pairs import masked_mean, pair_masks


class Triplet(nn.Module):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) of mined triplets.

    Schroff, Kalenichenko and Philbin 2015, "FaceNet", equation 2, with d the squared Euclidean
    distance on the unit sphere, 0..4. The mean is over the mined triplets, those that are 0 too.

    Args:
        margin: Of the squared distance, above 0.
        miner: Chooses the triplets, default `BatchHard()`.

    Raises:
        ValueError: The margin is not above 0.
    """

    def __init__(self, margin: float = 0.2, miner: Miner | None = None) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"Triplet.margin: above 0, found {margin}")
        self.margin = margin
        self.miner = miner or BatchHard()

    def forward(self, embedding: Tensor, identity: Tensor, valid: Tensor) -> Tensor:
        """The loss, (), with a gradient where no triplet is mined too.

        Args:
            embedding: (G, E) of length 1.
            identity: (G,) int64.
            valid: (G,) bool.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            distance = (2 - 2 * embedding @ embedding.T).clamp(min=0)  # (G, G)
        mined = self.miner(distance, *pair_masks(identity, valid))
        return masked_mean((mined.positive - mined.negative + self.margin).relu(), mined.valid)
