"""Which triplets of a batch are worth learning from.

G embeddings, M mined pairs of a positive and a negative.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Mined(NamedTuple):
    """Distances of anchors to a positive and a negative.

    Attributes:
        positive: (M,).
        negative: (M,).
        valid: (M,) bool, false where an anchor has none of them.
    """

    positive: Tensor
    negative: Tensor
    valid: Tensor


class Miner(Protocol):
    """Chooses triplets by their distances."""

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """Returns the chosen ones.

        Args:
            distance: (G, G).
            positive: (G, G) bool, pairs of one identity, none with itself.
            negative: (G, G) bool, pairs of two identities.
        """


class BatchHard:
    """Of every anchor the farthest positive and the nearest negative.

    Hermans, Beyer and Leibe 2017, "In defense of the triplet loss", equation 5.
    """

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """G triplets; see `Miner`."""
        farthest = distance.masked_fill(~positive, -1.0).amax(1)
        nearest = distance.masked_fill(~negative, float("inf")).amin(1)
        valid = positive.any(1) & negative.any(1)
        return Mined(farthest, nearest.where(valid, farthest), valid)


class SemiHard:
    """Of every pair of an identity the nearest negative that is farther than the positive.

    Schroff, Kalenichenko and Philbin 2015, "FaceNet", equation 4. A pair all of whose negatives are
    nearer is left out.
    """

    def __call__(self, distance: Tensor, positive: Tensor, negative: Tensor) -> Mined:
        """G * G triplets; see `Miner`."""
        of_pair = distance[:, :, None]  # (G, G, 1) anchor, positive
        of_negative = distance[:, None]  # (G, 1, G) anchor, negative
        farther = negative[:, None] & (of_negative > of_pair)  # (G, G, G)
        nearest = of_negative.masked_fill(~farther, float("inf")).amin(2)  # (G, G)
        valid = positive & farther.any(2)
        nearest = nearest.where(valid, distance)
        return Mined(distance.flatten(), nearest.flatten(), valid.flatten())
