"""AdaFace: the margin depends on the quality that the length of an embedding tells."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densekit.losses.cosine import angle
from densekit.losses.margin import Margin

_EPS = 1e-3
_NORMS = (1e-3, 100.0)
"""Lengths that count, as in the authors' code."""


class AdaFace(Margin):
    """cos(theta - m z) - (m + m z), z the standardised length of the embedding in -1..1.

    Kim, Jain and Liu 2022, "AdaFace", equations 12 to 14: good images (long embeddings) are pulled
    with an additive, poor ones with an angular margin. Mean and deviation of the lengths are
    running ones over the batches of all processes and start at 20 and 100, as in the authors' code.
    No gradient goes through z.

    Args:
        margin: m.
        concentration: h, the factor of the standardised length before it is cut to -1..1.
        momentum: Share of the running statistics that a batch replaces.
        scale: Factor of the cosines.

    Raises:
        ValueError: A setting is out of its range.
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
                "AdaFace: margin is 0 or more, concentration above 0, momentum above 0 and at most"
                f" 1, found {(margin, concentration, momentum)}"
            )
        self.margin, self.concentration, self.momentum = margin, concentration, momentum
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Moves the running statistics; one embedding alone has no deviation and moves nothing."""
        if len(norm) < 2:
            return
        norm = norm.clamp(*_NORMS)
        self.mean.lerp_(norm.mean().to(self.mean.dtype), self.momentum)
        self.deviation.lerp_(norm.std().to(self.deviation.dtype), self.momentum)

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """(G,) see `Margin.target`."""
        length = norm.detach().clamp(*_NORMS)
        z = (length - self.mean) / (self.deviation + _EPS) * self.concentration
        shift = self.margin * z.clamp(-1, 1)
        return (angle(cosine) - shift).clamp(0, math.pi).cos() - (self.margin + shift)
