"""One training step as a value: its losses can be computed again, in a run or from a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from densekit.ops import dist
from densekit.ops.hash import mix
from densekit.training.micro_batches import divided
from densekit.types import Batch

Heads = Mapping[str, Sequence[str] | None]
"""Data set to the heads that it has targets for; None for all."""

NOT_FOR_LOSSES = ("meta", "truth")


@dataclass(frozen=True)
class Step:
    """A training step of one process.

    Attributes:
        model: The network, in training mode, with the weights that the step began with.
        batches: Data set to batch.
        heads: Which heads each batch trains.
        seeds: The run's seed, the optimiser step, the batch of the epoch and the rank.
        precision: That of the trainer, such as "bf16-mixed".
        rate: Learning rate.
        micro_batches: Parts in which the batches are computed.
        autocast: Makes the context in which the losses are computed.
        weights: The model's state dict; None if the model can tell it itself.
    """

    model: nn.Module
    batches: Mapping[str, Batch]
    heads: Heads
    seeds: tuple[int, int, int, int]
    precision: str
    rate: float
    micro_batches: int = 1
    autocast: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)
    weights: Mapping[str, Tensor] | None = None

    def losses(self) -> Iterator[dict[str, Tensor]]:
        """Computes the loss terms of each micro-batch, with the random numbers of the step."""
        seed, step, *rest = self.seeds
        parts = divided(self.batches, self.micro_batches)
        for index, part in enumerate(parts):
            key = (*rest, index) if len(parts) > 1 else rest
            torch.manual_seed(int(mix(seed, step, *key)))
            yield loss_terms(self._loss, part, self.heads, seed, step)

    def _loss(self, batch: Batch, heads: Sequence[str] | None) -> dict[str, Tensor]:
        found: dict[str, Tensor] = cast(Any, self.model).loss(batch, heads=heads)
        return found

    @property
    def is_reduced(self) -> bool:
        """Whether the precision is below float32."""
        return not self.precision.startswith(("32", "64"))


def loss_terms(
    loss: Callable[[Batch, Sequence[str] | None], Mapping[str, Tensor]],
    batches: Mapping[str, Batch],
    heads: Heads,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """Loss terms of a training step: `HEAD/TERM`, with several data sets `SOURCE/HEAD/TERM`.

    Args:
        loss: Computes the terms of a batch for some heads.
        batches: Data set to batch.
        heads: Which heads each batch trains.
        seed: The run's seed.
        step: Optimiser step; with the seed and an image's key it determines every random choice.
    """
    terms: dict[str, Tensor] = {}
    for source, batch in batches.items():
        targets = {k: v for k, v in batch.items() if k not in NOT_FOR_LOSSES}
        targets["key"] = mix(seed, step, batch["key"])
        prefix = f"{source}/" if len(batches) > 1 else ""
        try:
            found = loss(cast(Batch, targets), heads[source])
        except ValueError as error:
            raise _of_batch_norm(error) from error
        terms |= {prefix + name: term for name, term in found.items()}
    return terms


def _of_batch_norm(error: ValueError) -> ValueError:
    """The error of a batch norm that sees one value per channel, as settings; others unchanged."""
    shape = re.search(r"^Expected more than 1 value per channel.*Size\((\[.*\])\)", str(error))
    if shape is None:
        return error
    return ValueError(
        f"batch_size: expected more than one value per channel for a batch norm, got {shape[1]};"
        " use larger batches, larger images or patches, or backbone.norm=group"
    )


def rerun(step: Step) -> tuple[dict[str, float], str | None]:
    """Recomputes the losses of a step, exactly, and checks the output of every module.

    Returns:
        The loss terms and the first module with a non-finite output, None if there is none.
    """
    # Hooks do not fire within compiled code. Processes whose loss is finite are not here: a
    # collective operation would wait for them for ever.
    eager = torch.compiler.set_stance("force_eager")
    with torch.no_grad(), dist.counted_alone(), eager, step.autocast(), _watch(step.model) as found:
        each = list(step.losses())
    return _means(each), found[0] if found else None


def regrade(step: Step, *, exact: bool = False) -> tuple[dict[str, float], list[str]]:
    """Recomputes the losses and the gradients of a step, in this process alone.

    Args:
        step: The gradients of its parameters are left unchanged.
        exact: Whether to compute in float32, whatever the run's precision.

    Returns:
        The loss terms and the parameters whose gradient is not finite, in backward order.
    """
    found: list[str] = []
    each: list[dict[str, Tensor]] = []

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda gradient: None if is_measurable(gradient) else found.append(name)

    named = {n: p for n, p in step.model.named_parameters() if p.requires_grad}
    handles = [parameter.register_hook(note(name)) for name, parameter in named.items()]
    eager = torch.compiler.set_stance("force_eager")
    cast = nullcontext() if exact else step.autocast()
    try:
        with torch.enable_grad(), dist.counted_alone(), eager, cast:
            for terms in step.losses():
                each.append(terms)
                total = torch.stack([term.float() for term in terms.values()]).sum()
                # Not backward(): its all-reduce would wait for processes that are not here.
                torch.autograd.grad(total, list(named.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return _means(each), found


def is_measurable(gradient: Tensor) -> bool:
    """Whether a gradient has a finite norm."""
    return bool(torch.isfinite(torch.linalg.vector_norm(gradient.float())))


def all_finite(value: Any) -> bool:
    """Whether every floating-point tensor in nested dicts and sequences is finite.

    Of tensors that are divided over processes it is the part of this one.
    """
    if isinstance(value, Tensor):
        value = dist.own_part(value)
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(all_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(all_finite(item) for item in value)
    return True


def _means(each: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """The mean of each loss term over the micro-batches of a step."""
    return {name: sum(float(t[name].detach()) for t in each) / len(each) for name in each[0]}


@contextmanager
def _watch(model: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules with a non-finite output, in order of execution."""
    found: list[str] = []

    def note(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if not all_finite(output):
                found.append(f"{name or 'model'} ({type(module).__name__})")

        return module.register_forward_hook(hook)

    handles = [note(name, module) for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
