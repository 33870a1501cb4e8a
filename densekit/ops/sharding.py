"""Tables with one row per class, divided over processes and drawn from row by row.

A table of millions of rows has no place in every process, and no step touches all of it. A module
with such a table is a `Sharded`, wherever in a model it is; the training loop asks it for what
DDP, clipping, the optimiser and checkpoints have to know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from densekit.ops import dist


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
    """A module with parameters of which each process holds some rows (`ops.dist.own_rows`).

    Their gradients are of the whole loss, not to be averaged over processes; they count in the
    clipping norm with the rows of all processes; checkpoints hold all rows.

    Attributes:
        draws: Whether a training step may draw some rows of a table and train these alone.
    """

    draws: bool = False

    @abstractmethod
    def shard(self) -> None:
        """Keeps the rows of this process and lets go of the others; does nothing when repeated.

        Called once the process group runs.
        """

    @abstractmethod
    def sharded_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters, by their names within the module."""

    def drawn_rows(self) -> list[DrawnRows]:
        """What the last forward has drawn of its tables, nothing where a step trains them whole."""
        return []

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Takes the rows of this process out of weights that hold all of them."""
        for name, parameter in self.sharded_parameters().items():
            rows = state_dict.get(prefix + name)
            if rows is not None and len(rows) != len(parameter):
                own = dist.own_rows(len(rows))
                state_dict[prefix + name] = rows[own.start : own.stop]
        super()._load_from_state_dict(state_dict, prefix, *args)
