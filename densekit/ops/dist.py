"""Collectives and facts of the process group; every function also works in a single process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch import distributed as torch_dist

Value = TypeVar("Value")

_alone: ContextVar[bool] = ContextVar("counted_alone", default=False)

SMALLEST_COUNT = 1e-6
"""Lower bound of a count: dividing an empty sum by it gives zero, not NaN."""


class Parts(Protocol):
    """The parts of a batch that this process computes one after the other.

    To a loss they are processes of their own, see `densekit.ops.parts.Exchange`.
    """

    def count(self, own: Tensor) -> Tensor:
        """`global_count` of all parts of all processes."""
        ...

    def sum(self, own: Tensor) -> Tensor:
        """`global_sum` of all parts of all processes."""
        ...

    def rows(self, own: Tensor) -> Tensor:
        """`gathered_rows` of all parts of all processes."""
        ...

    def rows_here(self, own: Tensor) -> Tensor:
        """`rows_of_batch` of all parts of this process."""
        ...


_parts: Parts | None = None  # not a ContextVar, which torch.compile does not trace


@contextmanager
def computed_in(parts: Parts) -> Iterator[None]:
    """Context in which `global_count`, `global_sum` and `gathered_rows` use all parts."""
    global _parts
    _parts = parts
    try:
        yield
    finally:
        _parts = None


def is_distributed() -> bool:
    """Returns whether a process group is initialised, of one process or more."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """Returns the rank of this process, 0 without a process group."""
    return torch_dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Returns the number of processes, 1 without a process group."""
    return torch_dist.get_world_size() if is_distributed() else 1


def gathered(value: Value) -> list[Value]:
    """Gathers the values of all processes, in the order of their ranks; all must call it.

    Args:
        value: This process's value, picklable.
    """
    if world_size() == 1:
        return [value]
    found: list[Value] = [value] * world_size()
    torch_dist.all_gather_object(found, value)
    return found


@contextmanager
def counted_alone() -> Iterator[None]:
    """Context in which `global_count`, `global_sum` and `gathered_rows` use this process alone.

    For evaluation: there a loss describes one batch rather than a common gradient, and must not
    depend on the batches of other processes.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def global_count(count: Tensor) -> Tensor:
    """Returns the divisor of a loss: the count over all processes divided by their number.

    DDP averages gradients over processes, so a sum divided by this is, after that average, the mean
    over the items of all processes, however unevenly they are distributed. Every process must call
    it the same number of times.

    Args:
        count: Number of items of this process, (), or several counts of any shape.

    Returns:
        The same shape, float32 (float64 stays), at least `SMALLEST_COUNT`, without gradient.
    """
    dtype = torch.float64 if count.dtype == torch.float64 else torch.float32
    total = count.detach().to(dtype)
    if _parts is not None:
        return _parts.count(total).clamp(min=SMALLEST_COUNT)
    processes = world_size()
    if processes > 1 and not _alone.get():
        total = total.clone()  # all_reduce writes in place
        torch_dist.all_reduce(total)
        total = total / processes
    return total.clamp(min=SMALLEST_COUNT)


def global_sum(value: Tensor) -> Tensor:
    """Sums over all processes, for a loss that divides sums of the whole batch.

    Its gradient suits DDP's average: every process computes the same loss of the same sums, and
    backpropagates its own part of the gradient times the number of processes.

    Args:
        value: Any shape; every process must call it the same number of times.
    """
    if _parts is not None:
        return _parts.sum(value)
    processes = world_size()
    if processes == 1 or _alone.get():
        return value
    total = value.detach().clone()  # all_reduce writes in place
    torch_dist.all_reduce(total)
    return total + processes * (value - value.detach())


def sum_of_parts(part: Tensor) -> Tensor:
    """Sums over all processes, for a loss whose graph is divided among them.

    Every process computes the same loss of the sum; each holds only the graph of its own part,
    whose gradient is that of the sum.

    Args:
        part: Any shape, the same in every process.
    """
    if world_size() == 1:
        return part
    total = part.detach().clone()  # all_reduce writes in place
    torch_dist.all_reduce(total)
    return total + (part - part.detach())


def max_over_processes(x: Tensor) -> Tensor:
    """Returns the elementwise maximum over all processes, without gradient."""
    largest = x.detach().clone()
    if world_size() > 1:
        torch_dist.all_reduce(largest, op=torch_dist.ReduceOp.MAX)
    return largest


def gathered_rows(x: Tensor) -> Tensor:
    """Gathers the rows of all W processes, (W * B, ...), for a loss over the whole batch.

    Its gradient suits DDP's average: every process computes the same loss of all rows, and
    backpropagates the gradient of its own rows times the number of processes. Within
    `counted_alone` the rows are those of this process.

    Args:
        x: (B, ...), with the same number of rows in every process.
    """
    if _parts is not None:
        return _parts.rows(x)
    if world_size() == 1 or _alone.get():
        return x
    rows: Tensor = _GatheredRows.apply(x, False)
    return rows


def rows_of_batch(x: Tensor) -> Tensor:
    """Returns the rows of this process's whole batch, without gradient, for a choice among them.

    They are those of `x`, unless the batch is computed in parts (see `computed_in`).

    Args:
        x: (B, ...), the rows of a part.
    """
    return x.detach() if _parts is None else _parts.rows_here(x.detach())


def gathered_rows_of_parts(x: Tensor) -> Tensor:
    """Gathers the rows of all processes, for a loss with a divided graph (`sum_of_parts`).

    The gradient of a row is the sum of its gradients in all processes, times their number, as DDP
    averages afterwards. Even within `counted_alone` the rows are those of all processes, as none of
    them could compute the loss alone.

    Args:
        x: (B, ...), with the same number of rows in every process.
    """
    if world_size() == 1:
        return x
    rows: Tensor = _GatheredRows.apply(x, True)
    return rows


class _GatheredRows(torch.autograd.Function):
    """All-gather along the first axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_parts: bool) -> Tensor:
        ctx.in_parts, ctx.count = in_parts, len(x)
        found = [torch.empty_like(x) for _ in range(world_size())]
        torch_dist.all_gather(found, x.contiguous())
        return torch.cat(found)  # (W * B, ...)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0]
        if ctx.in_parts:
            gradient = gradient.clone()  # all_reduce writes in place
            torch_dist.all_reduce(gradient)
        start = rank() * ctx.count
        return gradient[start : start + ctx.count] * world_size(), None


def whole(x: Tensor) -> Tensor:
    """Returns the whole of a tensor that is divided over processes; all of them must call it.

    Args:
        x: A `DTensor`; any other tensor is whole already.
    """
    gather: Callable[[], Tensor] | None = getattr(x, "full_tensor", None)
    return x if gather is None else gather()


def own_part(x: Tensor) -> Tensor:
    """Returns the part of a divided tensor that this process holds, perhaps empty.

    Args:
        x: A `DTensor`; any other tensor is whole.
    """
    local: Callable[[], Tensor] | None = getattr(x, "to_local", None)
    return x if local is None else local()


def own_rows(total: int) -> range:
    """Returns the rows of a table of `total` that this process holds: contiguous, by rank."""
    own, processes = rank(), world_size()
    return range(total * own // processes, total * (own + 1) // processes)


def sum_over_processes(x: Tensor) -> Tensor:
    """Sums over all processes, for a statistic inside the network.

    Every process uses it differently, so its gradient is the sum of the gradients of all; for a
    loss, which is the same in all processes, see `global_sum`.

    Args:
        x: Any shape, the same in every process.
    """
    if world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)
    return total
