"""Continues a training that runs out of memory, in micro-batches of the same effective batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.memory import (
    garbage_collection_cuda,
    is_cuda_out_of_memory,
    is_out_of_cpu_memory,
)
from torch import Tensor

from densekit.training.micro_batches import Saved, divided, sees_batch_norm
from densekit.training.sharding import sharded_modules
from densekit.types import Batch

UNALLOCATED = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    *("could not create a primitive", "could not create a memory"),  # oneDNN, on CPUs
)
_log = logging.getLogger(__name__)


class StepMemoryError(RuntimeError):
    """A training step does not fit into memory, and cannot be divided further."""


class OutOfMemory(Callback):
    """Repeats a step that runs out of memory in 2, 4, 8, ... micro-batches, and goes on with them.

    Losses and gradients stay those of the whole batch (see `densekit.training.micro_batches`), but
    batch norm normalises by the images of a micro-batch, and dropout draws anew. The number is kept
    in checkpoints, so that a resumed run continues exactly.

    With several processes the run ends instead and says what to set, as the others already wait for
    the one that failed.
    """

    def __init__(self) -> None:
        self._micro_batches = 1
        self._batches: Mapping[str, Batch] = {}

    def state_dict(self) -> dict[str, int]:
        """The number of micro-batches."""
        return {"micro_batches": self._micro_batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restores the number of micro-batches."""
        self._micro_batches = state_dict["micro_batches"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watches every step from here on."""
        lit: Any = pl_module
        lit.micro_batches = max(lit.micro_batches, self._micro_batches)
        buffers = Saved(lit.model.buffers())
        loop: Any = trainer.fit_loop.epoch_loop.automatic_optimization
        make = type(loop)._make_closure
        loop._make_closure = lambda *args: _Retried(
            make(loop, *args), lambda error: self._divide(lit, error), lit, buffers
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the batch, to see how it can be divided."""
        self._batches = batch

    def _divide(self, lit: Any, error: str) -> None:
        """Doubles the number of micro-batches.

        Raises:
            StepMemoryError: They cannot be used here, or have one image each already.
        """
        count = len(divided(self._batches, lit.micro_batches))
        more = len(divided(self._batches, 2 * count))
        found = f"step {lit.global_step}: expected a batch that fits into memory, got: {error}"
        smaller = "a smaller data.NAME.batch_size or smaller images"
        if sharded_modules(lit):
            raise StepMemoryError(f"{found}; classes divided over processes need {smaller}")
        if not isinstance(lit.trainer.strategy, SingleDeviceStrategy):
            raise StepMemoryError(
                f"{found}; continue with training.micro_batches={2 * count}, which computes the"
                f" same batch in parts, or with {smaller}"
            )
        if more == count:
            raise StepMemoryError(f"{found}, with one image at a time; use {smaller}")
        lit.micro_batches = self._micro_batches = more
        images = [f"{-(-len(b['key']) // more)} of {name}" for name, b in self._batches.items()]
        line = (
            f"step {lit.global_step}: {error}\nfrom here on a step computes its batch in {more}"
            f" micro-batches (images: {', '.join(images)}), with the same loss and gradients and a"
            f" third more time; training.micro_batches={more} begins so"
        )
        if sees_batch_norm(lit.model):
            line += "; batch norm now normalises by the images of a micro-batch"
        _log.warning(line)


class _Retried:
    """The closure of a step, repeated in smaller parts when it runs out of memory.

    Args:
        closure: Lightning's: forward and backward pass.
        divide: Called with the message of the error before a repetition.
        lit: Whose gradients are those that the closure found before it is repeated.
        buffers: Of the model; saved before each step.
    """

    def __init__(
        self, closure: Any, divide: Callable[[str], None], lit: LightningModule, buffers: Saved
    ) -> None:
        self._closure = closure
        self._divide = divide
        self._parameters = list(lit.parameters())
        self._buffers = buffers

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor | None:
        with torch.no_grad():
            self._buffers.save()
        gradients = self._accumulated()
        while True:
            try:
                loss: Tensor | None = self._closure(*args, **kwargs)
                return loss
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                message = (str(error) or type(error).__name__).splitlines()[0]
            # Not in the handler: the traceback of the error holds the activations.
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            with torch.no_grad():
                self._buffers.restore()
            garbage_collection_cuda()
            self._divide(message)

    def consume_result(self) -> Any:
        """Lightning's result of the step."""
        return self._closure.consume_result()

    def _accumulated(self) -> list[Tensor | None]:
        """Copies of the gradients that this batch adds to; none if it is the first of its step."""
        if self._closure._zero_grad_fn is not None:
            return [None] * len(self._parameters)
        return [None if p.grad is None else p.grad.clone() for p in self._parameters]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, on a GPU or a CPU."""
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or is_cuda_out_of_memory(error)
        or is_out_of_cpu_memory(error)
        or any(message in str(error) for message in UNALLOCATED)
    )
