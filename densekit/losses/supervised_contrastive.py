"""Supervised contrastive loss.

G embeddings, E their size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.pairs import masked_mean, pair_masks


class SupervisedContrastive(nn.Module):
    """Contrasts every positive of an anchor with all other images of the batch.

    Khosla et al. 2020, "Supervised contrastive learning", equation 2 (L_out). The mean is over the
    anchors that have a positive.

    Args:
        temperature: Divisor of the cosines, above 0.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(
                f"SupervisedContrastive.temperature: expected a number above 0, got {temperature}"
            )
        self.temperature = temperature

    def forward(self, embedding: Tensor, identity: Tensor, valid: Tensor) -> Tensor:
        """Returns the scalar loss; without any positive it is 0, with zero gradients.

        Args:
            embedding: (G, E) of unit length.
            identity: (G,) int64.
            valid: (G,) bool.
        """
        with torch.autocast(embedding.device.type, enabled=False):
            logits = embedding @ embedding.T / self.temperature  # (G, G)
        positive, negative = pair_masks(identity, valid)
        others = positive | negative
        lowest = torch.finfo(logits.dtype).min  # not -inf: a row without others must stay finite
        log_prob = logits - logits.masked_fill(~others, lowest).logsumexp(1, keepdim=True)
        count = positive.sum(1)
        of_anchor = -(log_prob.where(positive, 0.0)).sum(1) / count.clamp(min=1)
        return masked_mean(of_anchor, count > 0)
