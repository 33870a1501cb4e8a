"""Training of parameters that are sharded across processes.

DDP leaves them alone, the clipping norm counts the rows of all processes, and a checkpoint holds
all rows, whatever the number of processes that wrote it or reads it.
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
"""Key of a checkpoint: which entries of the optimiser's state have rows to be divided."""
STATES = ("state_dict", "current_model_state")
"""Keys of a checkpoint that hold weights; the second one beside averaged weights."""


class Sharding(Callback):
    """Trains parameters that are divided over processes; `LitModel` brings it where there are some.

    It swaps drawn rows in for their tables, clips by the norm of what all processes hold in place
    of the trainer, and leaves of an optimiser's state in a checkpoint the rows of this process.
    """

    def __init__(self) -> None:
        self._swap: RowSwap | None = None
        self._max_norm: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes clipping over: each process's own norm would be that of other rows."""
        by_norm = trainer.gradient_clip_algorithm in (None, "norm")
        if stage == "fit" and by_norm and dist.world_size() > 1:
            self._max_norm, trainer.gradient_clip_val = trainer.gradient_clip_val, None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives clipping back."""
        if self._max_norm:
            self._max_norm, trainer.gradient_clip_val = None, self._max_norm

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what such parameters cannot do, and gets to know the optimiser."""
        check_sharding(pl_module, trainer)
        self._swap = RowSwap(trainer.optimizers[0])

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the optimiser see the rows that this step has drawn of large tables."""
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
        """Puts rows back where the precision plugin has skipped the step."""
        if self._swap is not None:
            self._swap.put_back()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes the optimiser's state of this process's rows; `Sharded` takes its weights."""
        take_own_rows(checkpoint)


def sharded_modules(model: nn.Module) -> dict[str, Sharded]:
    """The modules of a model that have parameters to be divided, by their names."""
    return {name: part for name, part in model.named_modules() if isinstance(part, Sharded)}


def sharded_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of which each process holds some rows, by their names in the model."""
    return {
        f"{name}.{key}": parameter
        for name, module in sharded_modules(model).items()
        for key, parameter in module.sharded_parameters().items()
    }


def drawn_rows(model: nn.Module) -> list[DrawnRows]:
    """The rows that the last loss trains in place of their tables."""
    return [rows for module in sharded_modules(model).values() for rows in module.drawn_rows()]


def divide(model: nn.Module) -> list[str]:
    """Lets every such module keep its rows; returns the names of the parameters, for DDP to ignore.

    To be called once the process group runs.
    """
    for module in sharded_modules(model).values():
        module.shard()
    return list(sharded_parameters(model))


def check_sharding(model: nn.Module, trainer: Trainer) -> None:
    """Refuses what parameters divided over processes cannot do.

    Raises:
        ValueError: Gradients of fp16 are scaled process by process, or those of several batches,
            which draw different rows, are accumulated.
    """
    if trainer.world_size > 1 and trainer.precision == "16-mixed":
        raise ValueError(
            "precision: 16-mixed skips a step in one process and not in another where parameters"
            " are divided over them (PartialFC); accepted are bf16-mixed and 32-true"
        )
    draws = any(module.draws for module in sharded_modules(model).values())
    if trainer.accumulate_grad_batches > 1 and draws:
        raise ValueError(
            "trainer.accumulate_grad_batches: every batch draws class centres of its own (PartialFC"
            " with a rate below 1); accepted is 1"
        )


def clip_by_global_norm(optimizer: Optimizer, sharded: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients so that their norm over all processes is at most `max_norm`.

    Args:
        optimizer: Its parameters are clipped.
        sharded: Those of them of which every process holds other rows.
        max_norm: Above 0.

    Returns:
        The norm before, ().
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
    """Makes a checkpoint hold all rows; every process must call it, the first one has the result.

    Args:
        checkpoint: What Lightning is about to save.
        model: The module that is saved, which has the names of the checkpoint.
        optimizers: Those whose states are in the checkpoint, in their order.
    """
    parameters = sharded_parameters(model)
    if not parameters:
        return
    for state in (checkpoint[key] for key in STATES if key in checkpoint):
        for name in parameters:
            state[name] = _all_rows(state[name])
    checkpoint[ROWS] = [_places(parameters, optimizer) for optimizer in optimizers]
    for places, saved in zip(
        checkpoint[ROWS], checkpoint.get("optimizer_states", []), strict=False
    ):
        for place, name in places.items():
            _each_row_tensor(saved["state"], place, len(parameters[name]), _all_rows)


def take_own_rows(checkpoint: dict[str, Any]) -> None:
    """Leaves the rows of this process in the optimisers' states of a checkpoint that holds all.

    Args:
        checkpoint: As `gather_rows` made it.
    """
    for places, saved in zip(
        checkpoint.get(ROWS, []), checkpoint.get("optimizer_states", []), strict=False
    ):
        for place, name in places.items():
            _each_row_tensor(saved["state"], place, len(checkpoint["state_dict"][name]), _own_rows)


def _places(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[int, str]:
    """Number of a parameter in the optimiser's state dict to its name, of the divided ones."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    flat = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {n: names[id(parameter)] for n, parameter in enumerate(flat) if id(parameter) in names}


def _each_row_tensor(
    state: dict[int, dict[str, Any]], place: int, rows: int, change: Callable[[Tensor], Tensor]
) -> None:
    """Changes what an optimiser keeps a row, in a copy: the dict saved is the optimiser's own."""
    if place in state:
        state[place] = {
            key: change(value)
            if isinstance(value, Tensor) and value.shape[:1] == (rows,)
            else value
            for key, value in state[place].items()
        }


def _all_rows(own: Tensor) -> Tensor:
    """The rows of all processes in the first one; the others keep what they have."""
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
