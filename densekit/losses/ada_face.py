"""AdaFace: a margin that depends on image quality, estimated by the length of the embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densekit.losses.cosine import angle
from densekit.losses.margin import Margin

_EPS = 1e-3
_NORMS = (1e-3, 100.0)
"""Range that lengths are clipped to, as in the authors' code."""


class AdaFace(Margin):
    """cos(theta - m z) - (m + m z), where z is the standardised length of the embedding in -1..1.

    Kim, Jain and Liu 2022, "AdaFace", equations 12 to 14: good images (long embeddings) get an
    additive margin, poor ones an angular margin. The mean and standard deviation of the lengths are
    running averages over the batches of all processes and start at 20 and 100, as in the authors'
    code. No gradient flows through z.

    Args:
        margin: m, at least 0.
        concentration: h, the factor of the standardised length before it is clipped to -1..1.
        momentum: Weight of the current batch in the running statistics, in (0, 1].
        scale: Factor of the cosines.

    Raises:
        ValueError: A setting is out of range.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        margin: float = 0.4,
        concentration: float = 0.333,
        momentum: float = 0.01,
        scale: float = 64.0,
    ) -> None:
        super().__init__(scale)
        if margin < 0 or concentration <= 0 or not 0 < momentum <= 1:
            raise ValueError(
                "AdaFace: expected margin of at least 0, concentration above 0 and momentum in"
                f" (0, 1], got {margin}, {concentration} and {momentum}"
            )
        self.margin, self.concentration, self.momentum = margin, concentration, momentum
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Updates the running statistics, except for a single embedding, which has no deviation."""
        if len(norm) < 2:
            return
        norm = norm.clamp(*_NORMS)
        self.mean.lerp_(norm.mean().to(self.mean.dtype), self.momentum)
        self.deviation.lerp_(norm.std().to(self.deviation.dtype), self.momentum)

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """Returns (G,); see `Margin.target`."""
        length = norm.detach().clamp(*_NORMS)
        z = (length - self.mean) / (self.deviation + _EPS) * self.concentration
        shift = self.margin * z.clamp(-1, 1)
        return (angle(cosine) - shift).clamp(0, math.pi).cos() - (self.margin + shift)
