"""The embedding head: one vector of length 1 an image.

B images, G those of all processes, C channels, E the size of an embedding, D spatial dimensions.
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
"""Terms of a loss with class centres."""


class Embedding(Head):
    """Features of one level to an embedding; images of one identity get a small angle.

    It learns from class centres, a softmax with a margin, from pairs within the batch, or both. A
    loss has no meaning for identities that training did not know; data of those carry no `identity`
    (`densekit.data.OpenSet`) and are judged by the metrics alone.

    Args:
        specs: Of every level that could exist.
        num_identities: Identities of the training data.
        embedding_size: E.
        level: What is read.
        pool: Builds the `Pooling` from the level's spec and E.
        classifier: Builds the loss with class centres from the number of identities and E,
            `MarginSoftmax` or `PartialFC`; None for pair losses alone.
        pair_losses: Term name to loss of normalised embeddings (G, E), identities and validity
            (G,), e.g. `Triplet()`.
        loss_weights: Term name to its factor, 1 where none is given: `ce` and `magnitude` of the
            classifier, and the names of `pair_losses`.

    Raises:
        ValueError: The level is not there, there is no loss, or a weight is for none.
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
            raise ValueError("classifier, pair_losses: one of them is needed, found none")
        if classifier is not None and (same := set(CLASSIFIER_TERMS) & set(pair_losses or {})):
            raise ValueError(f"pair_losses: {min(same)!r} is a term of the classifier; rename it")
        self.reads = (level,)
        self.num_identities, self.embedding_size = num_identities, embedding_size
        self.pool = pool(choose("level", level, specs), embedding_size)
        self.classifier = classifier(num_identities, embedding_size) if classifier else None
        self.pair_losses = nn.ModuleDict(cast(Mapping[str, nn.Module], pair_losses or {}))
        known = [*(CLASSIFIER_TERMS if classifier else ()), *self.pair_losses]
        check_keys("loss_weights", loss_weights or {}, known)
        self.loss_weights = dict(loss_weights or {})

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Embeddings of length 1.

        Returns:
            embedding (B, E), float32 at least.
        """
        return {"embedding": unit_length(self._embedded(features, size))}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """`embedding` (B, E), as it is."""
        return outputs

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """`ce` (and what its margin adds) of the classifier, and one term a pair loss."""
        embedding = self._embedded(features, batch["size"])
        identity, valid = batch["identity"], batch["sample_valid"]
        # Without a wait for the device: centres of identities that do not exist would count as 0.
        torch._assert_async(
            (identity < self.num_identities).all(),
            f"identity: accepted are 0 to {self.num_identities - 1}, those of the training data",
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
        """Verification of the pairs that the evaluation data list."""
        from densekit.metrics import Verification

        return {"verification": Verification()}

    def _embedded(self, features: Features, size: Tensor) -> Tensor:
        """(B, E), not normalised: its length is what AdaFace and MagFace look at."""
        embedding: Tensor = self.pool(features[self.reads[0]], size)
        return embedding
