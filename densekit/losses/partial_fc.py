"""Partial FC: softmax over millions of identities, divided over processes and sampled.

B embeddings of this process, G those of all processes, N identities, n those whose centres this
process holds, K of them taking part in a step, E the size of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.combined_margin import ArcFace
from densekit.losses.cosine import cosine_logits
from densekit.losses.margin import Margin
from densekit.losses.margin_softmax import averaged, fresh_centres
from densekit.losses.targets import full_precision
from densekit.ops import dist
from densekit.ops.hash import mix, uniform
from densekit.ops.sharding import DrawnRows, Sharded


class PartialFC(Sharded):
    """`MarginSoftmax` whose centres are divided over processes, and of which a step draws a part.

    An et al. 2021, "Partial FC", section 3, and 2022, "Killing two birds with one stone", section
    3.2: every process compares the embeddings of all processes with its own centres; the softmax is
    over all of them, and its gradients are exact. With a rate below 1 a step takes the centres of
    the identities in the batch and fills up with others, drawn by a hash of the step's keys and the
    identity, to that share of each process's centres; the probability of drawing is not corrected
    for, as in the papers.

    Centres that are not drawn stand still in that step: neither weight decay nor momentum moves
    them, and their optimiser state waits. Adam's bias correction counts all steps.

    Args:
        num_identities: N.
        embedding_size: E.
        margin: How the cosine to the own class is made harder, default `ArcFace()`.
        rate: Share of the centres that take part in a step, above 0 and at most 1.

    Raises:
        ValueError: There is no identity, or the rate is out of its range.
    """

    def __init__(
        self,
        num_identities: int,
        embedding_size: int,
        margin: Margin | None = None,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        if num_identities < 1 or not 0 < rate <= 1:
            raise ValueError(
                "PartialFC: num_identities is 1 or more, rate above 0 and at most 1, found"
                f" {num_identities} and {rate}"
            )
        self.num_identities = num_identities
        self.margin = margin or ArcFace()
        self.rate, self.draws = rate, rate < 1
        self.centres = nn.Parameter(fresh_centres(num_identities, embedding_size))  # (n, E)
        self.first = 0
        self._drawn: DrawnRows | None = None

    def shard(self) -> None:
        """Keeps the centres of this process; see `Sharded.shard`."""
        own = dist.own_rows(self.num_identities)
        if len(self.centres) == self.num_identities and len(own) < self.num_identities:
            if not own:
                raise ValueError(
                    f"PartialFC: {self.num_identities} identities cannot be divided over"
                    f" {dist.world_size()} processes"
                )
            rows = self.centres.data[own.start : own.stop].clone()
            self.centres = nn.Parameter(rows, requires_grad=self.centres.requires_grad)
            self.first = own.start

    def sharded_parameters(self) -> dict[str, nn.Parameter]:
        """The centres."""
        return {"centres": self.centres}

    def drawn_rows(self) -> list[DrawnRows]:
        """The centres of the last step; see `Sharded.drawn_rows`."""
        return [] if self._drawn is None else [self._drawn]

    def forward(
        self, embedding: Tensor, identity: Tensor, valid: Tensor, key: Tensor
    ) -> dict[str, Tensor]:
        """The terms of the loss, () each; every process must call it.

        Args:
            embedding: (B, E), not normalised, with as many rows in every process.
            identity: (B,) int64 in 0..N-1.
            valid: (B,) bool; the others do not count.
            key: (B,) int64 random keys of the step; the same batch of all processes together draws
                the same.
        """
        embedding = full_precision(embedding)
        everyone = dist.gathered_rows_of_parts(embedding)  # (G, E)
        labels, counted, keys = (
            dist.gathered_rows_of_parts(x) for x in (identity, valid.long(), key)
        )
        centres, column = self._centres(labels, keys)
        mine = column >= 0  # (G,) whether the own centre lies in this process
        place = column.clamp(min=0)[:, None]
        cosine = cosine_logits(everyone, centres)  # (G, K)
        norm = everyone.norm(dim=1)
        target = dist.sum_of_parts(torch.where(mine, cosine.gather(1, place)[:, 0], 0.0))
        if self.training:
            self.margin.observe(target.detach(), norm.detach())
        harder = self.margin.target(target, norm)
        # Every process knows the harder cosines, the one with the centre holds their graph.
        harder = torch.where(mine, harder, harder.detach())
        logits = self.margin.others(cosine, harder.detach())
        own = torch.where(mine, harder, logits.gather(1, place)[:, 0])
        logits = self.margin.scale * logits.scatter(1, place, own[:, None])
        loss = _log_sum_exp(logits) - self.margin.scale * harder  # (G,)
        terms = {"ce": (loss * counted).sum() / counted.sum().clamp(min=1)}
        penalty = self.margin.penalty(embedding.norm(dim=1))
        return terms if penalty is None else {**terms, **averaged({}, penalty, valid)}

    def _centres(self, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The centres (K, E) of this step, and the place among them of each label (G,), or -1."""
        local = labels - self.first
        mine = (local >= 0) & (local < len(self.centres))
        count = max(round(self.rate * len(self.centres)), min(len(labels), len(self.centres)))
        if count == len(self.centres) or not torch.is_grad_enabled():
            self._drawn = None
            return self.centres, torch.where(mine, local, -1)
        rows = self._draw(local[mine], keys, count)
        values = self.centres.detach()[rows].requires_grad_()
        self._drawn = DrawnRows(self.centres, rows, values)
        return values, torch.where(mine, torch.searchsorted(rows, local), -1)

    def _draw(self, positive: Tensor, keys: Tensor, count: int) -> Tensor:
        """(K,) ascending rows: all positive ones and drawn others."""
        step = mix(keys.sum(), self.first)[None]  # the order of the batch makes no difference
        draw = uniform(step, len(self.centres))[0]  # (n,)
        draw[positive] = 2.0
        rows: Tensor = draw.topk(count, sorted=False).indices.sort().values
        return rows


def _log_sum_exp(logits: Tensor) -> Tensor:
    """(G,) over the logits (G, K) of all processes."""
    top = dist.max_over_processes(logits.amax(1))
    return dist.sum_of_parts((logits - top[:, None]).exp().sum(1)).log() + top
