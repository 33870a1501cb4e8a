"""Weighted sums of rows of a table, whose gradient on CPUs is such a gather, too.

Shape letters: M rows of the table, C channels, N sums, k rows per sum.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Returns `(table[rows] * weights[..., None]).sum(1)`, (N, C), without its (N, k, C) factor.

    Args:
        table: (M, C).
        rows: (N, k) int32 or int64.
        weights: (N, k) in the dtype of the table; they get no gradient.
    """
    if table.device.type == "cpu" and not torch.compiler.is_compiling():
        sums: Tensor = _Gather.apply(table, rows, weights)
        return sums
    return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


class _Gather(torch.autograd.Function):
    """torch's own backward adds one row at a time: twice as slow, in bfloat16 five times.

    Sorted by the row that they read, the terms of all sums are the terms of each row's gradient.
    They are added in float32, while torch's rounds to bfloat16 after each.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.count = len(table)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        readers = torch.bincount(rows.flatten(), minlength=ctx.count)
        order = rows.flatten().argsort()
        weights = weights.flatten()[order]
        sums = order.div_(rows.shape[1], rounding_mode="floor")
        of_table = F.embedding_bag(
            sums,
            gradient.contiguous(),
            readers.cumsum(0) - readers,
            per_sample_weights=weights,
            mode="sum",
        )
        return of_table, None, None
