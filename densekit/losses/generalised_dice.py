"""Generalised Dice: one score for all classes, the rare ones as heavy as the frequent.

B images, K classes, S the D sizes, R regions (B, or 1 if pooled).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.regions import SMOOTH, mean_over, measure


class GeneralisedDice(nn.Module):
    """One minus a Dice score whose classes are weighted by the inverse square of their size.

    Sudre et al. 2017, "Generalised Dice overlap as a deep learning loss function", section 2, with
    the weight 1 / size². A class that is absent gets the largest weight of those present, as in
    NiftyNet and MONAI. Only the ratio of the weights matters, so the largest is made 1; as they
    are, the sums of a large image come down to the smoothing of 1e-5, which flattens the loss.

    With one class (K = 1) the weight cancels and this is Dice. Samples and processes: see `Dice`.

    Args:
        batch: Pool the sums over the batch before dividing.
        include_background: Whether class 0 of a multi-class mask takes part.
    """

    def __init__(self, batch: bool = False, include_background: bool = True) -> None:
        super().__init__()
        self.batch = batch
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss, (), in 0..1.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        sums = measure(logits, mask, batch=self.batch, include_background=self.include_background)
        weight = size_weights(sums.truth)
        hit = (weight * sums.hit).sum(1)  # (R,)
        both = (weight * (sums.pred + sums.truth)).sum(1)  # (R,)
        score = (2 * hit + SMOOTH) / (both + SMOOTH)
        return mean_over(1 - score, sums.pixels.sum(1))


def size_weights(size: Tensor) -> Tensor:
    """(R, K) inverse squares of (R, K) sizes, the smallest class present at 1, absent ones too."""
    present = size > 0
    smallest = size.masked_fill(~present, torch.inf).amin(1, keepdim=True)  # (R, 1)
    return torch.where(present, smallest / size, 1.0).square()
