"""The few questions parts ask about the process group; every answer is right in one process too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as torch_dist

Value = TypeVar("Value")

_alone: ContextVar[bool] = ContextVar("counted_alone", default=False)

SMALLEST_COUNT = 1e-6
"""What a count of nothing becomes: dividing an empty sum by it gives zero, not NaN."""


def is_distributed() -> bool:
    """Whether a process group runs, of one process or more."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """This process's place among all, 0 in a run of one process."""
    return torch_dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return torch_dist.get_world_size() if is_distributed() else 1


def gathered(value: Value) -> list[Value]:
    """What every process holds, in the order of the ranks; every process must call it.

    Args:
        value: Anything that pickles, of this process.
    """
    if world_size() == 1:
        return [value]
    found: list[Value] = [value] * world_size()
    torch_dist.all_gather_object(found, value)
    return found


@contextmanager
def counted_alone() -> Iterator[None]:
    """Within it `global_count` is of this process alone.

    For evaluation, where a loss is a figure of a batch and not a part of a common gradient, so
    that it does not depend on what other processes look at.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def global_count(count: Tensor) -> Tensor:
    """The divisor of a loss: the count over all processes, divided by the number of processes.

    DDP averages gradients over processes, so a sum divided by this is, after that average, the
    mean over everything all processes have seen, however unevenly it lies on them. Every process
    must call it the same number of times.

    Args:
        count: () number of items of this process, or any shape of several counts.

    Returns:
        The same shape, float32 (float64 stays), at least `SMALLEST_COUNT`, without gradient.
    """
    dtype = torch.float64 if count.dtype == torch.float64 else torch.float32
    total = count.detach().to(dtype)
    processes = world_size()
    if processes > 1 and not _alone.get():
        total = total.clone()  # all_reduce writes in place
        torch_dist.all_reduce(total)
        total = total / processes
    return total.clamp(min=SMALLEST_COUNT)


def global_sum(value: Tensor) -> Tensor:
    """The sum over all processes, for a loss that divides sums of the whole batch.

    Its gradient is made for DDP's average: every process computes the same loss of the same sums,
    and passes on its own part of the gradient times the number of processes.

    Args:
        value: Any shape; every process must call it the same number of times.
    """
    processes = world_size()
    if processes == 1 or _alone.get():
        return value
    total = value.detach().clone()  # all_reduce writes in place
    torch_dist.all_reduce(total)
    return total + processes * (value - value.detach())


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum over all processes, for a statistic inside the network.

    Every process makes something else of it, and its gradient is the sum of all their gradients;
    for a loss, which is the same in all of them, see `global_sum`.

    Args:
        x: Any shape, the same in every process.
    """
    if world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(x)
    return total
