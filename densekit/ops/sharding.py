"""Tables with a row a class, divided over processes and drawn from row by row.

A table of millions of rows has no place in every process, and no step touches all of it. A module
with such a table is a `Sharded`; the training loop asks it for what DDP, clipping, the optimiser
and checkpoints have to know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class DrawnRows:
    """Some rows of a table, as a leaf of their own that a step trains in place of the table.

    Attributes:
        table: (N, E), without gradient in this step.
        rows: (K,) int64, which of its rows are drawn, ascending.
        values: (K, E) leaf with gradient, a copy of these rows.
    """

    table: nn.Parameter
    rows: Tensor
    values: Tensor


class Sharded(nn.Module, ABC):
    """A module with parameters of which each process holds some rows (`ops.dist.own_rows`)."""

    @abstractmethod
    def shard(self) -> None:
        """Keeps the rows of this process and lets go of the others; does nothing when repeated."""

    @abstractmethod
    def sharded_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters, by their names within the module."""

    def drawn_rows(self) -> list[DrawnRows]:
        """What the last forward has drawn of its tables, nothing where a step trains them whole."""
        return []
