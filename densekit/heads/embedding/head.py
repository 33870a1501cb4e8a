"""The embedding head: one vector of unit length per image.

Shape letters: B images, G images of all processes, E the embedding size, D spatial dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from densekit._names import check_keys, choose
from densekit.heads.base import Head
from densekit.heads.embedding.pooling import GlobalAverage, Pooling
from densekit.losses.cosine import unit_length
from densekit.losses.margin_softmax import MarginSoftmax
from densekit.ops import dist
from densekit.types import Batch, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

CLASSIFIER_TERMS = ("ce", "magnitude")
"""Terms of a classification loss, one with class centres."""


class Embedding(Head):
    """Embeds each image so that images of one identity have a small angle between them.

    Trained with a margin softmax over class centres, with losses over pairs of the batch, or with
    both. No loss is defined for identities outside the training set; evaluation data of new
    identities carry no `identity` (`densekit.data.OpenSet`) and only metrics are computed on them.

    Args:
        specs: Specs of all available levels.
        num_identities: Number of identities in the training data.
        embedding_size: E.
        level: The level that is pooled.
        pool: Builds the `Pooling` from the level's spec and E.
        classifier: Builds the classification loss from the number of identities and E:
            `MarginSoftmax` or `PartialFC`; None for pair losses alone.
        pair_losses: Term name to loss of normalised embeddings (G, E), identities and validity
            (G,), e.g. `Triplet()`.
        loss_weights: Term name to factor, 1 by default: `ce` and `magnitude` of the classifier,
            and the names of `pair_losses`.

    Raises:
        ValueError: The level does not exist, there is no loss, or a weight names no loss.
    """

    target_keys = ("identity",)
    main_metric = ("auc", "max")

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_identities: int,
        *,
        embedding_size: int = 512,
        level: str = "c5",
        pool: Callable[[FeatureSpec, int], Pooling] = GlobalAverage,
        classifier: Callable[[int, int], nn.Module] | None = MarginSoftmax,
        pair_losses: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] | None = None,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if classifier is None and not pair_losses:
            raise ValueError("classifier, pair_losses: expected at least one of them, got neither")
        if classifier is not None and (same := set(CLASSIFIER_TERMS) & set(pair_losses or {})):
            raise ValueError(
                f"pair_losses: expected names other than the classifier's terms, got {min(same)!r}"
            )
        self.reads = (level,)
        self.num_identities, self.embedding_size = num_identities, embedding_size
        self.pool = pool(choose("level", level, specs), embedding_size)
        self.classifier = classifier(num_identities, embedding_size) if classifier else None
        self.pair_losses = nn.ModuleDict(cast(Mapping[str, nn.Module], pair_losses or {}))
        known = [*(CLASSIFIER_TERMS if classifier else ()), *self.pair_losses]
        check_keys("loss_weights", loss_weights or {}, known)
        self.loss_weights = dict(loss_weights or {})

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns embeddings of unit length.

        Returns:
            embedding (B, E), at least float32.
        """
        return {"embedding": unit_length(self._embedded(features, size))}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Returns `embedding` (B, E) unchanged."""
        return outputs

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the classifier's terms, `ce` and perhaps `magnitude`, and one per pair loss."""
        embedding = self._embedded(features, batch["size"])
        identity, valid = batch["identity"], batch["sample_valid"]
        # Asynchronous, so as not to wait for the device. Unchecked, a missing centre counts as 0.
        torch._assert_async(
            (identity < self.num_identities).all(),
            f"identity: expected 0 to {self.num_identities - 1}, the identities of the training"
            " data, got a larger one",
        )
        terms: dict[str, Tensor] = {}
        if self.classifier is not None:
            terms |= self.classifier(embedding, identity, valid, batch["key"])
        if self.pair_losses:
            rows = dist.gathered_rows(unit_length(embedding))  # (G, E)
            labels, counted = dist.gathered_rows(identity), dist.gathered_rows(valid.long()) > 0
            terms |= {n: loss(rows, labels, counted) for n, loss in self.pair_losses.items()}
        return {name: term * self.loss_weights.get(name, 1.0) for name, term in terms.items()}

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns verification of the pairs listed by the evaluation data."""
        from densekit.metrics import Verification

        return {"verification": Verification()}

    def _embedded(self, features: Features, size: Tensor) -> Tensor:
        """(B, E), not normalised: AdaFace and MagFace use the length."""
        embedding: Tensor = self.pool(features[self.reads[0]], size)
        return embedding
