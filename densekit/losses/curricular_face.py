"""CurricularFace: hard negatives count more as training goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.losses.combined_margin import ArcFace


class CurricularFace(ArcFace):
    """ArcFace's margin for the own class; cosines above its result become cos * (t + cos).

    Huang et al. 2020, "CurricularFace", equations 7 to 9. t is the running mean of the cosine to
    the own class over the batches of all processes and starts at 0.

    Args:
        margin: Radians.
        momentum: Share of t that a batch replaces.
        scale: Factor of the cosines.

    Raises:
        ValueError: A setting is out of its range.
    """

    t: Tensor

    def __init__(self, margin: float = 0.5, momentum: float = 0.01, scale: float = 64.0) -> None:
        super().__init__(margin, scale)
        if not 0 < momentum <= 1:
            raise ValueError(f"CurricularFace.momentum: above 0, at most 1, found {momentum}")
        self.momentum = momentum
        self.register_buffer("t", torch.tensor(0.0))

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Moves t."""
        self.t.lerp_(cosine.mean().to(self.t.dtype), self.momentum)

    def others(self, cosine: Tensor, target: Tensor) -> Tensor:
        """(G, K) see `Margin.others`."""
        return torch.where(cosine > target[:, None], cosine * (self.t + cosine), cosine)
