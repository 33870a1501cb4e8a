"""A batch computed in parts, one after the other, with the loss and gradient of the whole batch.

A loss treats the P parts of each of W processes as P W processes: it divides by counts over all of
them, divided by P W, so that the mean of the parts' losses is the loss of the whole batch. What the
parts contribute is known only when all have been computed; so they are computed without gradients
first, to collect it, and then once more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as torch_dist

from densekit.ops import dist

ROUNDS = 6
"""Most rounds: one more than there are values that depend on each other."""


class Exchange:
    """Collects what the parts of a batch contribute to the counts, sums and rows of a loss.

        exchange = Exchange(len(parts))
        with dist.computed_in(exchange):
            while not exchange.settled:
                for index, part in enumerate(parts):
                    exchange.begin(index)
                    loss(part)                              # without gradients
                exchange.end_round()
            for index, part in enumerate(parts):
                exchange.begin(index)
                (loss(part) / len(parts)).backward()

    Every part makes the same calls in the same order, in every process.

    Args:
        parts: Number of parts P.

    Attributes:
        settled: Whether everything that the parts contribute is known.
    """

    def __init__(self, parts: int) -> None:
        self.settled = False
        self._virtual = parts * dist.world_size()
        self._given: list[list[Tensor]] = [[] for _ in range(parts)]  # by part, by call
        self._kinds: list[str] = []
        self._known: list[Tensor] = []  # by call, of all parts
        self._index = self._call = self._round = 0

    def begin(self, index: int) -> None:
        """Begins the computation of a part."""
        self._index, self._call = index, 0
        if not self.settled:
            self._given[index] = []

    def end_round(self) -> None:
        """Combines what all parts have contributed.

        Raises:
            ValueError: The parts made different calls, or their contributions do not settle.
        """
        if len({len(given) for given in self._given}) != 1:
            raise ValueError(
                "training.micro_batches: expected losses that call densekit.ops.dist as often for"
                f" each part of a batch, got {sorted(map(len, self._given))} calls"
            )
        before, calls = self._known, zip(*self._given, strict=True)
        self._known = [_joined(k, values) for k, values in zip(self._kinds, calls, strict=True)]
        self._round += 1
        # A count only divides, but what is computed from sums or rows may be contributed in turn.
        self.settled = set(self._kinds) <= {"count"} or _equal(before, self._known)
        if not self.settled and self._round == ROUNDS:
            raise ValueError(
                "training.micro_batches: expected losses of which at most"
                f" {ROUNDS - 1} sums depend on each other, got more; set it to 1"
            )

    def count(self, own: Tensor) -> Tensor:
        """See `densekit.ops.dist.global_count`."""
        total = self._shared("count", own)
        return own if total is None else total / self._virtual

    def sum(self, own: Tensor) -> Tensor:
        """See `densekit.ops.dist.global_sum`."""
        total = self._shared("sum", own)
        return own if total is None else total + self._virtual * (own - own.detach())

    def rows(self, own: Tensor) -> Tensor:
        """See `densekit.ops.dist.gathered_rows`."""
        call = self._call
        rows = self._shared("rows", own)
        if rows is None:
            return own
        lengths = [len(given[call]) for given in self._given]
        start = dist.rank() * sum(lengths) + sum(lengths[: self._index])
        if own.requires_grad:
            own = own.detach() + self._virtual * (own - own.detach())
        return torch.cat([rows[:start], own, rows[start + len(own) :]])

    def rows_here(self, own: Tensor) -> Tensor:
        """See `densekit.ops.dist.rows_of_batch`."""
        rows = self._shared("rows here", own)
        return own if rows is None else rows

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _shared(self, kind: str, own: Tensor) -> Tensor | None:
        """Notes the contribution of a part; returns that of all parts once it is known."""
        if not self.settled:
            self._given[self._index].append(own.detach().clone())
            if self._call == len(self._kinds):
                self._kinds.append(kind)
        known = self._known[self._call] if self._call < len(self._known) else None
        self._call += 1
        return known


def _joined(kind: str, values: tuple[Tensor, ...]) -> Tensor:
    """The sum, or the rows, of all parts of all processes."""
    if kind.startswith("rows"):
        rows = torch.cat(values)
        if dist.world_size() == 1 or kind == "rows here":
            return rows
        found = [torch.empty_like(rows) for _ in range(dist.world_size())]
        torch_dist.all_gather(found, rows)
        return torch.cat(found)
    total = torch.stack(values).sum(0)
    if dist.world_size() > 1:
        torch_dist.all_reduce(total)
    return total


def _equal(before: list[Tensor], now: list[Tensor]) -> bool:
    """Whether two rounds contributed the same, up to kernels that are not deterministic."""
    return len(before) == len(now) and all(
        torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-8, equal_nan=True)
        for a, b in zip(before, now, strict=True)
    )
