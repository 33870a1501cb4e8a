"""Lets an optimiser update only the drawn rows of a table, as if they were the parameter.

The table itself has no gradient in such a step. Between backward and the end of the step its drawn
rows replace it in the optimiser's groups (so that clipping, unscaling of gradients and the schedule
treat them like any parameter), with their rows of its state. Rows that are not drawn are neither
read nor written: weight decay, momentum and moving averages do not change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from densekit.ops.sharding import DrawnRows


class RowSwap:
    """Swaps drawn rows in after backward, and back after the step.

    Args:
        optimizer: Any of torch's; state with the shape of the parameter is taken to be per row.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._swapped: list[tuple[DrawnRows, dict[str, Any]]] = []
        optimizer.register_step_post_hook(lambda *_: self.put_back())

    def swap_in(self, drawn: Sequence[DrawnRows]) -> None:
        """Replaces tables by their drawn rows, which hold the gradients."""
        self.put_back()  # of a step that was skipped
        for rows in drawn:
            kept = self.optimizer.state.pop(rows.table, {})
            self.optimizer.state[rows.values] = {
                key: value[rows.rows] if _has_shape_of(rows.table, value) else value
                for key, value in kept.items()
            }
            self._replace(rows.table, rows.values)
            self._swapped.append((rows, kept))

    @torch.no_grad()
    def put_back(self) -> None:
        """Writes the rows and their state back into their tables."""
        for rows, kept in self._swapped:
            rows.table[rows.rows] = rows.values
            for key, value in self.optimizer.state.pop(rows.values, {}).items():
                if _has_shape_of(rows.values, value):
                    if key not in kept:
                        kept[key] = torch.zeros_like(rows.table)
                    kept[key][rows.rows] = value
                else:
                    kept[key] = value
            if kept:
                self.optimizer.state[rows.table] = kept
            self._replace(rows.values, rows.table)
        self._swapped = []

    def _replace(self, old: Tensor, new: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["params"] = [
                new if parameter is old else parameter for parameter in group["params"]
            ]


def _has_shape_of(table: Tensor, value: Any) -> bool:
    return isinstance(value, Tensor) and value.shape == table.shape
