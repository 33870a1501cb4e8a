"""Tversky loss, plain and focal.

B images, K classes, S the D sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.regions import SMOOTH, mean_over, measure

_STRAIGHT = 1e-4
"""Below this the root is replaced by a line through 0, as its slope there is infinite."""


class Tversky(nn.Module):
    """One minus the Tversky index TP / (TP + alpha FP + beta FN), with soft counts.

    Salehi et al. 2017, "Tversky loss function for image segmentation using 3D fully convolutional
    deep networks", equation 4. alpha = beta = 1/2 is Dice; beta above alpha finds more of a small
    class at the price of false positives. With `gamma` it is the focal Tversky loss of Abraham and
    Khan 2019, equation 4, each class's term to the power 1 / gamma: above 1 (4/3 in the paper) it
    is steeper for classes that are nearly found. Absent classes, samples and processes: see `Dice`.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: At least 1; the paper's gamma, so the exponent is its inverse.
        batch: Whether to sum over the batch before dividing.
        include_background: Whether class 0 of a multi-class mask has a term.

    Raises:
        ValueError: gamma is below 1, or the weights are negative or both 0.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        batch: bool = False,
        include_background: bool = True,
    ) -> None:
        super().__init__()
        if min(alpha, beta) < 0 or alpha + beta == 0:
            raise ValueError(
                f"Tversky.alpha, beta: expected at least 0 and not both 0, got {alpha} and {beta}"
            )
        if gamma < 1:
            raise ValueError(f"Tversky.gamma: expected at least 1, got {gamma}")
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.batch = batch
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss, in 0..1.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        sums = measure(logits, mask, batch=self.batch, include_background=self.include_background)
        errors = self.alpha * sums.wrong + self.beta * sums.missed  # (R, K)
        score = (sums.hit + SMOOTH) / (sums.hit + errors + SMOOTH)
        return mean_over(_root(1 - score, self.gamma), sums.pixels)


def _root(value: Tensor, degree: float) -> Tensor:
    """Returns `value ** (1 / degree)` for values in 0..1, with a finite slope at 0."""
    if degree == 1:
        return value
    straight = value * _STRAIGHT ** (1 / degree - 1)
    return torch.where(value > _STRAIGHT, value.clamp(min=_STRAIGHT) ** (1 / degree), straight)
