"""Logs the norms of the gradients, of the model and of each of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from densekit.ops import dist
from densekit.training.sharding import drawn_rows, sharded_parameters


class GradientNorms(Callback):
    """Logs `grad_norm/total`, `grad_norm/backbone`, `grad_norm/neck` and `grad_norm/heads/HEAD`.

    They are the 2-norms before clipping, at every `trainer.log_every_n_steps` steps.
    """

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Logs the norms if the step is logged."""
        every = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if trainer.loggers and every > 0 and (trainer.global_step + 1) % every == 0:
            norms = gradient_norms(pl_module)
            pl_module.log_dict({f"grad_norm/{name}": norm for name, norm in norms.items()})


def gradient_norms(lit: Any) -> dict[str, Tensor]:
    """Norms of the gradients of the whole model and of its parts; every process must call it.

    Args:
        lit: A `LitModel` after the backward pass.
    """
    squares = {name: _square(part, lit.device) for name, part in _parts(lit.model).items()}
    total = torch.stack(list(squares.values())).sum()
    return {name: square.sqrt() for name, square in {"total": total, **squares}.items()}


def _parts(model: nn.Module) -> Mapping[str, nn.Module]:
    parts = dict(model.named_children())
    heads = parts.pop("heads", nn.Module())
    parts |= {f"heads/{name}": head for name, head in heads.named_children()}
    return {k: v for k, v in parts.items() if any(p.requires_grad for p in v.parameters())}


def _square(part: nn.Module, device: torch.device) -> Tensor:
    """The squared norm of the gradients of a part; of divided rows those of all processes."""
    rows = [*sharded_parameters(part).values(), *(drawn.values for drawn in drawn_rows(part))]
    divided = {id(parameter) for parameter in rows}
    common = [p for p in part.parameters() if id(p) not in divided]
    square = _norm(common).to(device).square()
    if rows:
        square = square + dist.sum_of_parts(_norm(rows).to(device).square())
    return square


def _norm(parameters: Iterable[Tensor]) -> Tensor:
    return dist.whole(get_total_norm([p.grad for p in parameters if p.grad is not None]))
