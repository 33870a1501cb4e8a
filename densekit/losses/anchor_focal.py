"""Focal loss of anchors, its gradient computed beside it.

Almost every entry of the logits belongs to a class that its anchor does not have: all are computed
as such, and the one entry per object's anchor is replaced. Nothing of the logits' size is made but
the loss and the gradient, of which the latter alone is kept.

Shape letters: B images, A anchors, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.losses.targets import full_precision


def focal_sum(
    logits: Tensor, classes: Tensor, counted: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Returns the sum of the loss of each image, (B,) (Lin et al. 2017, equation 5).

    Args:
        logits: (B, A, K).
        classes: (B, A), 0..K-1, or below 0 for an anchor without an object.
        counted: (B, A) bool; other anchors do not count.
        gamma: Exponent of the focal factor.
        alpha: Weight of an anchor's own class; the other classes get 1 - alpha.
    """
    if torch.is_grad_enabled() and logits.requires_grad:
        found: Tensor = _FocalSum.apply(logits, classes, counted, gamma, alpha)
        return found
    return _Terms(logits, classes, counted, gamma, alpha).sum()


class _FocalSum(torch.autograd.Function):
    """Keeps the gradient in the dtype of the logits; double backward is not supported."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, classes: Tensor, counted: Tensor, gamma: float, alpha: float
    ) -> Tensor:
        terms = _Terms(logits, classes, counted, gamma, alpha)
        ctx.save_for_backward(terms.gradient().to(logits.dtype))
        return terms.sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        scale = upstream[0][:, None, None].to(gradient.dtype)
        return gradient * scale, None, None, None, None


class _Terms:
    """What the loss and its gradient have in common, for the arguments of `focal_sum`."""

    def __init__(
        self, logits: Tensor, classes: Tensor, counted: Tensor, gamma: float, alpha: float
    ) -> None:
        x = full_precision(logits)
        self.counted, self.gamma, self.alpha = counted, gamma, alpha
        self.score, self.cost = x.sigmoid(), F.softplus(x)  # (B, A, K), of a class that is not own
        self.factor = self.score**gamma
        self.has_own, self.own = classes[..., None] >= 0, classes.clamp(min=0)[..., None]
        margin = x.gather(2, self.own)  # (B, A, 1)
        self.own_doubt, self.own_cost = (-margin).sigmoid(), F.softplus(-margin)

    def gradient(self) -> Tensor:
        """The derivative (B, A, K) of the sums by the logits."""
        slope = (1 - self.score).mul_(self.cost).mul_(self.gamma).add_(self.score)
        slope.mul_(self.factor).mul_(1 - self.alpha)
        doubt = self.own_doubt
        of_own = self.gamma * (1 - doubt) * self.own_cost + doubt
        self._replace(slope, -self.alpha * doubt**self.gamma * of_own)
        return slope.mul_(self.counted[..., None])

    def sum(self) -> Tensor:
        """The sums (B,)."""
        loss = (self.factor * self.cost).mul_(1 - self.alpha)
        self._replace(loss, self.alpha * self.own_doubt**self.gamma * self.own_cost)
        return (loss.sum(2) * self.counted).sum(1)

    def _replace(self, values: Tensor, own: Tensor) -> None:
        """Writes the values (B, A, 1) of the anchors' own classes, where they have one."""
        old = values.gather(2, self.own)
        values.scatter_(2, self.own, torch.where(self.has_own, own, old))
