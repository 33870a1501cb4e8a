"""CurricularFace: a margin softmax whose hard negatives gain weight during training."""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.losses.combined_margin import ArcFace


class CurricularFace(ArcFace):
    """ArcFace's margin for the target class; larger cosines to others become cos * (t + cos).

    Huang et al. 2020, "CurricularFace", equations 7 to 9. t is the running mean of the cosine to
    the target class over the batches of all processes and starts at 0.

    Args:
        margin: Added to the angle, in radians.
        momentum: Weight of the current batch in t, in (0, 1].
        scale: Factor of the cosines.

    Raises:
        ValueError: A setting is out of range.
    """

    t: Tensor

    def __init__(self, margin: float = 0.5, momentum: float = 0.01, scale: float = 64.0) -> None:
        super().__init__(margin, scale)
        if not 0 < momentum <= 1:
            raise ValueError(
                f"CurricularFace.momentum: expected a number in (0, 1], got {momentum}"
            )
        self.momentum = momentum
        self.register_buffer("t", torch.tensor(0.0))

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Updates t."""
        self.t.lerp_(cosine.mean().to(self.t.dtype), self.momentum)

    def others(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns (G, K); see `Margin.others`."""
        return torch.where(cosine > target[:, None], cosine * (self.t + cosine), cosine)
