"""Focal loss of pixels.

B images, K classes, S the D sizes, P pixels of an image; M planes of the mask: 1, or K if it is
multi-label.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.losses.cross_entropy import pixel_losses
from densekit.losses.targets import counted, exclusive, flatten, full_precision, recomputed
from densekit.ops.dist import global_count

_SMALLEST = 1e-12
"""Lower bound of 1 - p, as for gamma below 1 the slope at 0 is infinite."""


class Focal(nn.Module):
    """Cross-entropy times (1 - p)^gamma, where p is the probability of the pixel's true class.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5: the sigmoid form if K is 1
    or the mask is multi-label, otherwise its softmax analogue. The mean is over the counted pixels
    (and labels) of all processes; the paper divides by the number of positive anchors, which masks
    do not have.

    Args:
        gamma: At least 0; 0 is cross-entropy.
        alpha: Weight of the foreground (value 1, or any class but class 0); the background gets
            1 - alpha. None weighs both by 1.

    Raises:
        ValueError: gamma is negative or alpha outside 0..1.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"Focal.gamma: expected at least 0, got {gamma}")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"Focal.alpha: expected 0 to 1, got {alpha}")
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        logits, mask = flatten(logits, mask)
        return recomputed(self._sum, logits, mask) / global_count(counted(mask).sum())

    def _sum(self, logits: Tensor, mask: Tensor) -> Tensor:
        focal = _softmax_focal if exclusive(logits, mask) else _sigmoid_focal
        weight = counted(mask)  # (B, M, P)
        if self.alpha is not None:
            weight = weight * torch.where(mask > 0, self.alpha, 1 - self.alpha)
        return (focal(logits, mask, self.gamma) * weight).sum()


def _softmax_focal(logits: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """The loss (B, 1, P) of exclusive classes."""
    loss = pixel_losses(logits, mask)
    doubt = -torch.expm1(-loss)  # 1 - p without cancellation
    return doubt.clamp(min=_SMALLEST) ** gamma * loss


def _sigmoid_focal(logits: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """The loss (B, M, P) of independent labels."""
    logits = full_precision(logits)
    margin = torch.where(mask == 1, logits, -logits)
    return -F.logsigmoid(margin) * torch.exp(gamma * F.logsigmoid(-margin))
