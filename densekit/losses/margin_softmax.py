"""Softmax over identities with a margin; every process holds all class centres.

B embeddings of this process, G those of all processes, N identities, E the embedding size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.losses.combined_margin import ArcFace
from densekit.losses.cosine import cosine_logits
from densekit.losses.margin import Margin
from densekit.losses.targets import full_precision
from densekit.ops import dist


class MarginSoftmax(nn.Module):
    """Cross-entropy of scaled cosines to class centres, averaged over all processes.

    Suits up to some hundred thousand identities; see `PartialFC` for more.

    Args:
        num_identities: N.
        embedding_size: E.
        margin: Margin applied to the cosine to the target class, default `ArcFace()`.
        sub_centres: Centres per identity, of which the nearest counts; with more than one, noisy
            images can gather at a centre of their own (Deng et al. 2020, "Sub-center ArcFace",
            section 3.2).

    Raises:
        ValueError: `num_identities` or `sub_centres` is less than 1.
    """

    def __init__(
        self,
        num_identities: int,
        embedding_size: int,
        margin: Margin | None = None,
        sub_centres: int = 1,
    ) -> None:
        super().__init__()
        if num_identities < 1 or sub_centres < 1:
            raise ValueError(
                "num_identities, sub_centres: expected at least 1 each, got"
                f" {num_identities} and {sub_centres}"
            )
        self.margin = margin or ArcFace()
        self.sub_centres = sub_centres
        self.centres = nn.Parameter(fresh_centres(num_identities * sub_centres, embedding_size))

    def forward(
        self, embedding: Tensor, identity: Tensor, valid: Tensor, key: Tensor
    ) -> dict[str, Tensor]:
        """Returns the scalar terms of the loss, by name.

        Args:
            embedding: (B, E), not normalised.
            identity: (B,) int64 in 0..N-1.
            valid: (B,) bool; other rows do not count.
            key: (B,) int64 random keys, unused here.
        """
        embedding = full_precision(embedding)
        norm = embedding.norm(dim=1)
        cosine = cosine_logits(embedding, self.centres)
        if self.sub_centres > 1:
            cosine = cosine.unflatten(1, (-1, self.sub_centres)).amax(2)  # (B, N)
        own = identity[:, None]
        target = cosine.gather(1, own)[:, 0]
        if self.training and type(self.margin).observe is not Margin.observe:
            seen = dist.gathered_rows(target.detach()), dist.gathered_rows(norm.detach())
            self.margin.observe(*seen)
        harder = self.margin.target(target, norm)
        logits = self.margin.others(cosine, harder.detach()).scatter(1, own, harder[:, None])
        terms = {"ce": F.cross_entropy(self.margin.scale * logits, identity, reduction="none")}
        return averaged(terms, self.margin.penalty(norm), valid)


def fresh_centres(count: int, embedding_size: int) -> Tensor:
    """Returns random centres (count, E), short because long ones change direction slowly."""
    return torch.empty(count, embedding_size).normal_(std=0.01)


def averaged(terms: dict[str, Tensor], penalty: Tensor | None, valid: Tensor) -> dict[str, Tensor]:
    """Averages terms over the valid embeddings of all processes.

    Args:
        terms: Name to values (B,).
        penalty: (B,) result of `Margin.penalty`, which becomes the term `magnitude`.
        valid: (B,) bool.
    """
    if penalty is not None:
        terms = {**terms, "magnitude": penalty}
    count = dist.global_count(valid.sum())
    return {name: (value * valid).sum() / count for name, value in terms.items()}
