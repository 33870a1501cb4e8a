"""Prints what trains: the parts of the model, and the cost of a step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from densekit._console import table_of
from densekit.training.console import show
from densekit.training.step_lines import used_memory
from densekit.training.transfer import Part
from densekit.types import Batch

_log = logging.getLogger(__name__)


class ModelSummary(Callback):
    """Prints how the parts of the model train, and after the first step what a step costs.

    The cost is that of the step as it was done: its images; the floating-point operations of its
    convolutions and matrix products, forward and backward, except in compiled code; and the peak
    of the memory.
    """

    def __init__(self) -> None:
        self._counter = Operations()
        self._counting = ExitStack()
        self._is_first = False
        self._micro_batches = 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the table."""
        lit: Any = pl_module
        self._is_first = trainer.is_global_zero
        if self._is_first:
            show(trainer, parts_table(lit.model, lit.transfer.parts(lit.model)))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts to count the operations of the first step."""
        lit: Any = pl_module
        if self._is_first and not lit.is_compiled:  # counted code would not be compiled
            self._micro_batches = lit.micro_batches
            self._counting.enter_context(self._counter)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the cost of the first step."""
        if not self._is_first:
            return
        self._is_first = False
        self._counting.close()
        lit: Any = pl_module
        count = self._counter.total
        if lit.micro_batches > self._micro_batches:  # a part was done twice, for lack of memory
            count = 0
        times = trainer.accumulate_grad_batches * trainer.world_size
        _log.info("%s", cost(batch, times, count, used_memory(pl_module.device)))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Ends the counting."""
        self._counting.close()


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products in its context.

    A multiplication with an addition counts as two, as in `torch.utils.flop_counter`, whose
    formulas are used; unlike its counter this one leaves modules and operators as they are.

    Attributes:
        total: The number so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(getattr(func, "_overloadpacket", None))
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=found))
        return found


def parts_table(model: nn.Module, parts: Sequence[Part]) -> Table:
    """Lays out the parts of a model; stages of the backbone that train alike share a row.

    Args:
        model: For the size of its weights and buffers.
        parts: See `Transfer.parts`.
    """
    rows = [_row(list(group), parts) for _, group in groupby(parts, key=_alike)]
    total, trained = sum(p.parameters for p in parts), sum(p.trained for p in parts)
    rows.append(["model", f"{total:,}", _trained(Part("model", total, trained))])
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    title = f"Model, {size / 2**20:,.1f} MiB of weights"
    return table_of(title, ["part", "parameters", "trained"], rows)


def cost(batch: Mapping[str, Batch], times: int, operations: int, memory: float) -> str:
    """Describes what a step costs.

    Args:
        batch: Data set to the batch of one process.
        times: Number of such batches per step.
        operations: Floating-point operations for the batch; 0 if they were not counted.
        memory: Of this process, in GiB.
    """
    images = [
        f"{len(one['image']) * times} x {' x '.join(map(str, one['image'].shape[1:]))} of {name}"
        for name, one in batch.items()
    ]
    parts = [f"step: {' + '.join(images)}"]
    if operations:
        parts.append(f"{operations * times / 1e9:,.4g} GFLOP forward and backward")
    return ", ".join([*parts, f"memory {memory:.1f} GiB"])


def _alike(part: Part) -> tuple[str, int, float, float]:
    top = part.name.partition(".")[0]
    whole = part.trained in (0, part.parameters)
    name = top if whole and top == "backbone" else part.name
    return name, int(part.trained > 0), part.start, part.factor


def _row(group: Sequence[Part], parts: Sequence[Part]) -> list[str]:
    first, last = group[0], group[-1]
    parameters = sum(part.parameters for part in group)
    trained = sum(part.trained for part in group)
    name = first.name
    if len(group) > 1:
        whole = len(group) == sum(part.name.startswith("backbone.") for part in parts)
        name = "backbone" if whole else f"{name} to {last.name.rpartition('.')[2]}"
    merged = first._replace(parameters=parameters, trained=trained)
    return [name, f"{parameters:,}", _trained(merged)]


def _trained(part: Part) -> str:
    if not part.trained:
        return "no"
    text = "all" if part.trained == part.parameters else f"{part.trained:,}"
    if part.start:
        text += f", from {part.start:.0%} of the run on"
    return text + (f", learning rate x {part.factor:.3g}" if part.factor != 1 else "")
