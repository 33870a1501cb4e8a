"""The base class of margins, which change cosines before they become logits.

G embeddings, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn


class Margin(nn.Module):
    """No margin: a plain normalised softmax. Subclasses override its steps.

    Args:
        scale: Factor of the cosines, the inverse of a temperature.

    Raises:
        ValueError: The scale is not above 0.
    """

    def __init__(self, scale: float = 64.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"{type(self).__name__}.scale: expected a number above 0, got {scale}")
        self.scale = scale

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Updates running statistics from a training batch of all processes, before its use.

        Args:
            cosine: (G,) to the target class, without gradient.
            norm: (G,) lengths of the embeddings, without gradient.
        """

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """Returns the cosine to the target class with the margin applied, (G,).

        Args:
            cosine: (G,).
            norm: (G,) lengths of the embeddings before they were normalised.
        """
        return cosine

    def others(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns the cosines to the other classes, (G, K).

        Args:
            cosine: (G, K).
            target: (G,) result of `target`, without gradient.
        """
        return cosine

    def penalty(self, norm: Tensor) -> Tensor | None:
        """Returns an additional term of the loss, (G,), or None.

        Args:
            norm: (G,) lengths of the embeddings.
        """
        return None
