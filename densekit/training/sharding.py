"""Trains parameters that are sharded across processes.

DDP ignores them, the clipping norm covers the rows of all processes, and a checkpoint holds all
rows, independently of the number of processes that write or read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from densekit.ops import dist
from densekit.ops.sharding import DrawnRows, Sharded
from densekit.training.row_swap import RowSwap

ROWS = "sharded"
"""Checkpoint key of the entries of the optimiser's state that are sharded by row."""
STATES = ("state_dict", "current_model_state")
"""Checkpoint keys that hold weights; the second one exists beside averaged weights."""


class Sharding(Callback):
    """Trains sharded parameters; `LitModel` adds it to models that have some.

    It swaps drawn rows in for their tables, clips by the norm over all processes in place of the
    trainer, and loads only this process's rows of the optimiser's state from checkpoints.
    """

    def __init__(self) -> None:
        self._swap: RowSwap | None = None
        self._max_norm: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes over clipping from the trainer, which would use the norm of one process's rows."""
        by_norm = trainer.gradient_clip_algorithm in (None, "norm")
        if stage == "fit" and by_norm and dist.world_size() > 1:
            self._max_norm, trainer.gradient_clip_val = trainer.gradient_clip_val, None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hands clipping back to the trainer."""
        if self._max_norm:
            self._max_norm, trainer.gradient_clip_val = None, self._max_norm

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses settings that sharded parameters do not support, and prepares the row swap."""
        check_sharding(pl_module, trainer)
        self._swap = RowSwap(trainer.optimizers[0])

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the optimiser the rows that this step has drawn from large tables."""
        if self._swap is not None:
            self._swap.swap_in(drawn_rows(pl_module))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Clips by the norm of the gradients of all processes."""
        if self._max_norm:
            divided: list[Tensor] = list(sharded_parameters(pl_module).values())
            divided += [rows.values for rows in drawn_rows(pl_module)]
            clip_by_global_norm(optimizer, divided, self._max_norm)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Puts rows back if the precision plugin has skipped the step."""
        if self._swap is not None:
            self._swap.put_back()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the optimiser state of this process's rows; `Sharded` does so for the weights."""
        take_own_rows(checkpoint)


def sharded_modules(model: nn.Module) -> dict[str, Sharded]:
    """Name to module for the modules of a model that have sharded parameters."""
    return {name: part for name, part in model.named_modules() if isinstance(part, Sharded)}


def sharded_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name to parameter for the parameters of which each process holds some rows."""
    return {
        f"{name}.{key}": parameter
        for name, module in sharded_modules(model).items()
        for key, parameter in module.sharded_parameters().items()
    }


def drawn_rows(model: nn.Module) -> list[DrawnRows]:
    """The rows that the last loss has drawn, trained in place of their tables."""
    return [rows for module in sharded_modules(model).values() for rows in module.drawn_rows()]


def divide(model: nn.Module) -> list[str]:
    """Shards the parameters of all such modules; returns the names, for DDP to ignore.

    The process group must be initialised.
    """
    for module in sharded_modules(model).values():
        module.shard()
    return list(sharded_parameters(model))


def check_sharding(model: nn.Module, trainer: Trainer) -> None:
    """Refuses settings that sharded parameters do not support.

    Raises:
        ValueError: The precision is 16-mixed, whose scaler works per process, or the gradients of
            several batches, which draw different rows, are accumulated.
    """
    if trainer.world_size > 1 and trainer.precision == "16-mixed":
        raise ValueError(
            "precision: expected bf16-mixed or 32-true with parameters sharded across processes"
            " (PartialFC), got 16-mixed, which may skip a step in one process only"
        )
    draws = any(module.draws for module in sharded_modules(model).values())
    if trainer.accumulate_grad_batches > 1 and draws:
        raise ValueError(
            "trainer.accumulate_grad_batches: expected 1, since every batch draws its own class"
            f" centres (PartialFC with a rate below 1), got {trainer.accumulate_grad_batches}"
        )


def clip_by_global_norm(optimizer: Optimizer, sharded: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients so that their norm over all processes is at most `max_norm`.

    Args:
        optimizer: Its parameters are clipped.
        sharded: Those of which every process holds different rows.
        max_norm: Above 0.

    Returns:
        The norm before clipping, ().
    """
    divided = {id(parameter) for parameter in sharded}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients: tuple[list[Tensor], list[Tensor]] = [], []
    for parameter in parameters:
        if parameter.grad is not None:
            gradients[id(parameter) in divided].append(parameter.grad)
    device = parameters[0].device  # without gradients a norm is 0 on the CPU
    common, own = (get_total_norm(tensors).to(device) for tensors in gradients)
    norm = (common.square() + dist.sum_of_parts(own.square())).sqrt()
    clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def gather_rows(
    checkpoint: dict[str, Any], model: nn.Module, optimizers: Sequence[Optimizer]
) -> None:
    """Gathers all rows into the checkpoint of the first process; every process must call it.

    Args:
        checkpoint: About to be saved by Lightning.
        model: The module that is saved, with the parameter names of the checkpoint.
        optimizers: Those whose states are in the checkpoint, in order.
    """
    parameters = sharded_parameters(model)
    if not parameters:
        return
    for state in (checkpoint[key] for key in STATES if key in checkpoint):
        for name in parameters:
            state[name] = _all_rows(state[name])
    checkpoint[ROWS] = [_indices(parameters, optimizer) for optimizer in optimizers]
    for indices, saved in zip(
        checkpoint[ROWS], checkpoint.get("optimizer_states", []), strict=False
    ):
        for index, name in indices.items():
            _each_row_tensor(saved["state"], index, len(parameters[name]), _all_rows)


def take_own_rows(checkpoint: dict[str, Any]) -> None:
    """Keeps only this process's rows in the optimiser states of a checkpoint that holds all.

    Args:
        checkpoint: Made by `gather_rows`.
    """
    for indices, saved in zip(
        checkpoint.get(ROWS, []), checkpoint.get("optimizer_states", []), strict=False
    ):
        for index, name in indices.items():
            _each_row_tensor(saved["state"], index, len(checkpoint["state_dict"][name]), _own_rows)


def _indices(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[int, str]:
    """Index in the optimiser's state dict to name, for the sharded parameters."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    flat = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {n: names[id(parameter)] for n, parameter in enumerate(flat) if id(parameter) in names}


def _each_row_tensor(
    state: dict[int, dict[str, Any]], index: int, rows: int, change: Callable[[Tensor], Tensor]
) -> None:
    """Changes an optimiser's per-row state in a copy, since the saved dict is the optimiser's."""
    if index in state:
        state[index] = {
            key: change(value)
            if isinstance(value, Tensor) and value.shape[:1] == (rows,)
            else value
            for key, value in state[index].items()
        }


def _all_rows(own: Tensor) -> Tensor:
    """The rows of all processes in the first process; the others keep their own."""
    if dist.world_size() == 1:
        return own
    counts = dist.gathered(len(own))
    padded = own.new_zeros((max(counts), *own.shape[1:]))
    padded[: len(own)] = own
    first = dist.rank() == 0
    parts = [torch.empty_like(padded) for _ in counts] if first else None
    torch.distributed.gather(padded, parts)
    if parts is None:
        return own
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _own_rows(rows: Tensor) -> Tensor:
    own = dist.own_rows(len(rows))
    return rows[own.start : own.stop].clone()
