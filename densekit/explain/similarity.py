"""Targets of embeddings: the similarity with another image.

Shape letters: B images, E the embedding size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from densekit.explain.target import Target
from densekit.types import Predictions

KEY = "embedding"


class SimilarityTarget(Target):
    """The cosine similarity with the embedding of another image.

    Args:
        reference: (E,).
    """

    name = "similarity"

    def __init__(self, reference: Tensor) -> None:
        self.reference = normalize(reference.float(), dim=0)

    def score(self, predictions: Predictions) -> Tensor:
        """Returns the similarities, (B,) in -1..1."""
        rows = normalize(predictions[KEY].float(), dim=1)
        return rows @ self.reference.to(rows.device)
