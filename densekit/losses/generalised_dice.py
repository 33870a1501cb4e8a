"""Generalised Dice loss: one score over all classes, weighted so that rare ones count as much.

B images, K classes, S the D sizes, R regions (B, or 1 if pooled).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.regions import SMOOTH, mean_over, measure


class GeneralisedDice(nn.Module):
    """One minus a Dice score over all classes, weighted by the inverse square of their sizes.

    Sudre et al. 2017, "Generalised Dice overlap as a deep learning loss function", section 2, with
    the weight 1 / size². An absent class gets the largest weight of those present, as in NiftyNet
    and MONAI. The weights are scaled to a largest of 1, as only their ratios matter: unscaled, the
    sums of a large image shrink to the smoothing term of 1e-5, which flattens the loss.

    With one class (K = 1) the weight cancels and this is Dice. Samples and processes: see `Dice`.

    Args:
        batch: Whether to sum over the batch before dividing.
        include_background: Whether class 0 of a multi-class mask takes part.
    """

    def __init__(self, batch: bool = False, include_background: bool = True) -> None:
        super().__init__()
        self.batch = batch
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss, in 0..1.

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
    """Inverse squares (R, K) of sizes (R, K); 1 for the smallest class present and absent ones."""
    present = size > 0
    smallest = size.masked_fill(~present, torch.inf).amin(1, keepdim=True)  # (R, 1)
    return torch.where(present, smallest / size, 1.0).square()
