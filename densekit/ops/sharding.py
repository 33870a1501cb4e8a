"""Tables with one row per class, sharded over processes and sampled by rows.

A table of millions of rows does not fit into every process, and no step uses all of it. A module
with such a table is a `Sharded`, anywhere in a model; the training loop queries it for DDP,
gradient clipping, the optimiser and checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from densekit.ops import dist


@dataclass
class DrawnRows:
    """Sampled rows of a table, as a separate leaf that a step trains instead of the table.

    Attributes:
        table: (N, E), without gradient in this step.
        rows: (K,) int64, the sampled rows, ascending.
        values: (K, E) leaf with gradient, a copy of these rows.
    """

    table: nn.Parameter
    rows: Tensor
    values: Tensor


class Sharded(nn.Module, ABC):
    """A module with parameters of which each process holds some rows (`ops.dist.own_rows`).

    Their gradients are those of the whole loss and must not be averaged over processes; the
    clipping norm includes the rows of all processes; checkpoints hold all rows.

    Attributes:
        draws: Whether a training step may sample rows of a table and train only these.
    """

    draws: bool = False

    @abstractmethod
    def shard(self) -> None:
        """Keeps only the rows of this process; does nothing when repeated.

        Called after the process group is initialised.
        """

    @abstractmethod
    def sharded_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the sharded parameters, by their names within the module."""

    def drawn_rows(self) -> list[DrawnRows]:
        """Returns the rows sampled by the last forward; none if a step trains whole tables."""
        return []

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Selects the rows of this process from a state dict with all rows."""
        for name, parameter in self.sharded_parameters().items():
            rows = state_dict.get(prefix + name)
            if rows is not None and len(rows) != len(parameter):
                own = dist.own_rows(len(rows))
                state_dict[prefix + name] = rows[own.start : own.stop]
        super()._load_from_state_dict(state_dict, prefix, *args)
