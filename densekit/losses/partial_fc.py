"""Partial FC: softmax over millions of identities, sharded over processes and sampled.

B embeddings of this process, G those of all processes, N identities, n those whose centres this
process holds, K of them used in a step, E the embedding size.
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
    """`MarginSoftmax` with centres sharded over processes, of which each step samples a part.

    An et al. 2021, "Partial FC", section 3, and 2022, "Killing two birds with one stone", section
    3.2: every process compares the embeddings of all processes with its own centres; the softmax is
    over all centres, and its gradients are exact. With a rate below 1 a step uses the centres of
    the identities in the batch and others, sampled by a hash of the step's keys and the identity,
    up to that share of each process's centres; as in the papers, the sampling probability is not
    corrected for.

    Centres that are not sampled stay unchanged in that step: neither weight decay nor momentum
    moves them, and their optimiser state is kept. Adam's bias correction counts all steps.

    Args:
        num_identities: N.
        embedding_size: E.
        margin: Margin applied to the cosine to the target class, default `ArcFace()`.
        rate: Share of the centres used in a step, in (0, 1].

    Raises:
        ValueError: There is no identity, or the rate is out of range.
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
                "PartialFC: expected num_identities of at least 1 and rate in (0, 1], got"
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
                    "PartialFC: expected identities for each of the"
                    f" {dist.world_size()} processes, got {self.num_identities} in all"
                )
            rows = self.centres.data[own.start : own.stop].clone()
            self.centres = nn.Parameter(rows, requires_grad=self.centres.requires_grad)
            self.first = own.start

    def sharded_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the centres."""
        return {"centres": self.centres}

    def drawn_rows(self) -> list[DrawnRows]:
        """Returns the centres sampled in the last step; see `Sharded.drawn_rows`."""
        return [] if self._drawn is None else [self._drawn]

    def forward(
        self, embedding: Tensor, identity: Tensor, valid: Tensor, key: Tensor
    ) -> dict[str, Tensor]:
        """Returns the scalar terms of the loss, by name; every process must call it.

        Args:
            embedding: (B, E), not normalised, with the same number of rows in every process.
            identity: (B,) int64 in 0..N-1.
            valid: (B,) bool; other rows do not count.
            key: (B,) int64 random keys of the step; the sample depends on the keys of all processes
                together, not on their distribution.
        """
        embedding = full_precision(embedding)
        everyone = dist.gathered_rows_of_parts(embedding)  # (G, E)
        labels, counted, keys = (
            dist.gathered_rows_of_parts(x) for x in (identity, valid.long(), key)
        )
        centres, column = self._centres(labels, keys)
        mine = column >= 0  # (G,) whether this process holds the target's centre
        index = column.clamp(min=0)[:, None]
        cosine = cosine_logits(everyone, centres)  # (G, K)
        norm = everyone.norm(dim=1)
        target = dist.sum_of_parts(torch.where(mine, cosine.gather(1, index)[:, 0], 0.0))
        if self.training:
            self.margin.observe(target.detach(), norm.detach())
        harder = self.margin.target(target, norm)
        # Every process has the values after the margin, but only the one with the centre the graph.
        harder = torch.where(mine, harder, harder.detach())
        logits = self.margin.others(cosine, harder.detach())
        own = torch.where(mine, harder, logits.gather(1, index)[:, 0])
        logits = self.margin.scale * logits.scatter(1, index, own[:, None])
        loss = _log_sum_exp(logits) - self.margin.scale * harder  # (G,)
        terms = {"ce": (loss * counted).sum() / counted.sum().clamp(min=1)}
        penalty = self.margin.penalty(embedding.norm(dim=1))
        return terms if penalty is None else {**terms, **averaged({}, penalty, valid)}

    def _centres(self, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The centres (K, E) of this step, and the index among them of each label (G,), or -1."""
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
        """Ascending rows (K,): all positive ones and a sample of the others."""
        step = mix(keys.sum(), self.first)[None]  # independent of the order of the batch
        draw = uniform(step, len(self.centres))[0]  # (n,)
        draw[positive] = 2.0
        rows: Tensor = draw.topk(count, sorted=False).indices.sort().values
        return rows


def _log_sum_exp(logits: Tensor) -> Tensor:
    """Log-sum-exp (G,) over the logits (G, K) of all processes."""
    top = dist.max_over_processes(logits.amax(1))
    return dist.sum_of_parts((logits - top[:, None]).exp().sum(1)).log() + top
