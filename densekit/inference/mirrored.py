"""Embeddings of an image and of its mirror image, as one."""

from __future__ import annotations

import torch.nn.functional as F

from densekit.inference.augment import mirrored
from densekit.inference.inferer import Inferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


class MirroredEmbedding(Inferer):
    """Adds the embeddings of each image and its left-right mirror image; the sum has length 1.

    Raises:
        ValueError: While predicting, a head gives no embedding.
    """

    whole_image = True

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """`embedding` (B, E) of each head; see `Inferer.predict`."""
        plain = model.predict(batch, features)
        for head, found in plain.items():
            if "embedding" not in found:
                raise ValueError(
                    f"inferer: MirroredEmbedding adds embeddings, but heads.{head} gives"
                    f" {sorted(found)}; other models take densekit.inference.WholeImage"
                )
        other = model.predict(mirrored(model, batch, [-1]))
        return {
            head: {"embedding": F.normalize(found["embedding"] + other[head]["embedding"])}
            for head, found in plain.items()
        }
