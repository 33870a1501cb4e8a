"""Computes a training step in micro-batches, with the loss and gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit.ops import dist
from densekit.ops.parts import Exchange
from densekit.training.sharding import sharded_modules
from densekit.types import Batch

Loss = tuple[Tensor, dict[str, Tensor]]
"""The total, (), and the terms."""


def divided(batches: Mapping[str, Batch], count: int) -> list[dict[str, Batch]]:
    """Divides the batches of a step into micro-batches, each with images of every data set.

    Args:
        batches: Data set to batch.
        count: Number of micro-batches; fewer if a batch has fewer images.
    """
    count = min(count, *(len(batch["key"]) for batch in batches.values()))
    parts = {source: _rows(batch, count) for source, batch in batches.items()}
    return [{source: rows[index] for source, rows in parts.items()} for index in range(count)]


def _rows(value: Any, count: int) -> list[Any]:
    """Divides tensors and lists, also in a dict, along their first axis, as evenly as possible."""
    if isinstance(value, Mapping):
        each = {key: _rows(item, count) for key, item in value.items()}
        return [{key: rows[index] for key, rows in each.items()} for index in range(count)]
    total = len(value)
    ends = [total * index // count for index in range(count + 1)]
    return [value[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def computed_in_parts(
    model: nn.Module,
    losses: Sequence[Callable[[], Loss]],
    backward: Callable[[Tensor], object],
) -> tuple[Tensor, dict[str, Tensor], Callable[[], None]]:
    """Computes the mean of the losses of micro-batches, and all gradients but those of the last.

    Every micro-batch starts with the buffers that the step found, and their mean over the
    micro-batches is what the step leaves: running statistics are updated once per step.

    Args:
        model: Whose buffers the losses may change.
        losses: Computes the loss of each micro-batch.
        backward: Accumulates the gradients of a loss.

    Returns:
        The total, whose value is that of the whole step and whose graph that of the last
        micro-batch; the terms of the whole step; and what to call after its backward pass.
    """
    exchange = Exchange(len(losses))
    buffers = Saved(model.buffers())
    share, totals, terms = 1 / len(losses), list[Tensor](), list[dict[str, Tensor]]()
    noted: list[list[Tensor]] = []
    with dist.computed_in(exchange):
        while not exchange.settled:
            with torch.no_grad():
                for index, loss in enumerate(losses):
                    exchange.begin(index)
                    loss()
                    buffers.restore()
            exchange.end_round()
        torch.clear_autocast_cache()  # holds weights that were cast without gradients
        for index, loss in enumerate(losses):
            exchange.begin(index)
            total, of_part = loss()
            totals.append(total.detach() * share)
            terms.append({name: term.detach() * share for name, term in of_part.items()})
            noted.append([buffer.clone() for buffer in model.buffers()])
            if index + 1 < len(losses):
                backward(total * share)
                with torch.no_grad():
                    buffers.restore()
    rest = torch.stack(totals).sum() - totals[-1]
    summed = {name: torch.stack([of_part[name] for of_part in terms]).sum() for name in terms[0]}
    return total * share + rest, summed, partial(_write_mean, list(model.buffers()), noted)


def _write_mean(buffers: list[Tensor], noted: list[list[Tensor]]) -> None:
    for buffer, *values in zip(buffers, *noted, strict=True):
        if buffer.is_floating_point():  # a counter has counted the step once already
            buffer.copy_(torch.stack(values).mean(0))


class Saved:
    """Copies of tensors, such as the buffers of a model.

    Args:
        tensors: To copy now.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self._copies = [tensor.clone() for tensor in self._tensors]

    def save(self) -> None:
        """Copies the tensors again."""
        if self._tensors:
            torch._foreach_copy_(self._copies, self._tensors)

    def restore(self) -> None:
        """Writes the copies back."""
        if self._tensors:
            torch._foreach_copy_(self._tensors, self._copies)


def check_divisible(lit: Any) -> None:
    """Refuses micro-batches where their gradients would not be those of the whole batch.

    Raises:
        ValueError: The strategy divides parameters, or a head divides its classes over processes.
    """
    if lit.micro_batches == 1:
        return
    if not isinstance(lit.trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        name = type(lit.trainer.strategy).__name__
        raise ValueError(f"training.micro_batches: expected 1 with {name}, got {lit.micro_batches}")
    if names := sharded_modules(lit):
        raise ValueError(
            f"training.micro_batches: expected 1 with {next(iter(names))}, whose sampled classes"
            f" depend on the whole batch, got {lit.micro_batches}"
        )


def sees_batch_norm(model: nn.Module) -> bool:
    """Whether a module normalises by the statistics of the batch that it is given."""
    return any(isinstance(m, _BatchNorm) and m.training for m in model.modules())
