"""Softmax over identities with a margin, every process holding all class centres.

B embeddings of this process, G those of all processes, N identities, E the size of an embedding.
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
    """Cross-entropy of scaled cosines to class centres; the mean over all processes.

    For identities by the hundred thousand; see `PartialFC` for more.

    Args:
        num_identities: N.
        embedding_size: E.
        margin: How the cosine to the own class is made harder, default `ArcFace()`.
        sub_centres: Centres an identity, of which the nearest counts; more than one lets noisy
            images gather at a centre of their own (Deng et al. 2020, "Sub-center ArcFace",
            section 3.2).

    Raises:
        ValueError: There is no identity, or no centre of one.
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
                f"num_identities, sub_centres: 1 or more, found {num_identities} and {sub_centres}"
            )
        self.margin = margin or ArcFace()
        self.sub_centres = sub_centres
        self.centres = nn.Parameter(fresh_centres(num_identities * sub_centres, embedding_size))

    def forward(
        self, embedding: Tensor, identity: Tensor, valid: Tensor, key: Tensor
    ) -> dict[str, Tensor]:
        """The terms of the loss, () each.

        Args:
            embedding: (B, E), not normalised.
            identity: (B,) int64 in 0..N-1.
            valid: (B,) bool; the others do not count.
            key: (B,) int64 random keys, of no use here.
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
    """(count, E) directions; their length has no meaning, but a long one turns slowly."""
    return torch.empty(count, embedding_size).normal_(std=0.01)


def averaged(terms: dict[str, Tensor], penalty: Tensor | None, valid: Tensor) -> dict[str, Tensor]:
    """Means over the valid embeddings of all processes.

    Args:
        terms: Name to (B,) values.
        penalty: (B,) of `Margin.penalty`, which becomes the term `magnitude`.
        valid: (B,) bool.
    """
    if penalty is not None:
        terms = {**terms, "magnitude": penalty}
    count = dist.global_count(valid.sum())
    return {name: (value * valid).sum() / count for name, value in terms.items()}
