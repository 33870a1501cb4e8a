"""One embedding from an image and its mirror image."""

from __future__ import annotations

import torch.nn.functional as F

from densekit.inference.augment import mirrored
from densekit.inference.inferer import Inferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


class MirroredEmbedding(Inferer):
    """Adds the embeddings of each image and its left-right mirror image; the sum has length 1.

    Raises:
        ValueError: A head returns no embedding; raised while predicting.
    """

    whole_image = True

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Returns `embedding` (B, E) of each head; see `Inferer.predict`."""
        plain = model.predict(batch, features)
        for head, found in plain.items():
            if "embedding" not in found:
                raise ValueError(
                    f"inferer: MirroredEmbedding expected an embedding from every head, got"
                    f" {sorted(found)} from heads.{head}; use densekit.inference.WholeImage for"
                    " this model"
                )
        other = model.predict(mirrored(model, batch, [-1]))
        return {
            head: {"embedding": F.normalize(found["embedding"] + other[head]["embedding"])}
            for head, found in plain.items()
        }
