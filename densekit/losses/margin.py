"""What a margin is: how it changes cosines before they become logits.

G embeddings, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn


class Margin(nn.Module):
    """A plain normalised softmax: no margin. Sub-classes make it harder.

    Args:
        scale: Factor of the cosines, the inverse of a temperature.

    Raises:
        ValueError: The scale is not above 0.
    """

    def __init__(self, scale: float = 64.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"{type(self).__name__}.scale: above 0, found {scale}")
        self.scale = scale

    def observe(self, cosine: Tensor, norm: Tensor) -> None:
        """Takes in a training batch of all processes before it is used; for running statistics.

        Args:
            cosine: (G,) to the own class, without gradient.
            norm: (G,) lengths of the embeddings, without gradient.
        """

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """(G,) the cosine to the own class, made harder.

        Args:
            cosine: (G,).
            norm: (G,) lengths of the embeddings before they were normalised.
        """
        return cosine

    def others(self, cosine: Tensor, target: Tensor) -> Tensor:
        """(G, K) the cosines to classes that are not the own one.

        Args:
            cosine: (G, K).
            target: (G,) what `target` returned, without gradient.
        """
        return cosine

    def penalty(self, norm: Tensor) -> Tensor | None:
        """(G,) a further term of the loss, None without one.

        Args:
            norm: (G,) lengths of the embeddings.
        """
        return None
