"""Stops a run at a NaN or infinite loss, gradient or weight, and saves the evidence."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from densekit.ops import dist
from densekit.training.evidence import write_evidence
from densekit.training.likely_cause import cause_of_gradient, cause_of_loss, file_names, too_fast
from densekit.training.micro_batches import Saved
from densekit.training.sources import source_heads
from densekit.training.step import Step, all_finite, is_measurable, regrade, rerun
from densekit.types import Batch

RUNNING = ("running_mean", "running_var")

logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss, a gradient or a weight became NaN or infinite."""


class NonFinite(Callback):
    """Checks the loss and the gradients of every step before the weights are updated.

    At the first NaN or infinite loss it repeats the step to find the first module whose output is
    not finite; at the first such gradient, the first parameter in backward order. It saves the
    batch, file names, loss terms and the weights, with which `densekit replay` repeats the step,
    and stops the run. Gradients of `16-mixed` are left to its scaler, which skips such steps.

    Weights that are not finite after a step are neither evaluated nor saved: the run stops there.

    The host reads the flag after it has queued the backward pass, so that the device keeps busy.
    With several processes it reads it before, because summing the gradients would spread the loss
    of one process to the weights of all.

    Args:
        folder: Where `rank_0.pt` is saved.
        skip: Number of optimiser steps of a run that may be skipped before it stops: weights,
            optimiser and running statistics stay as they are, the step is counted, and a warning
            names its images.
    """

    def __init__(self, folder: str | Path, skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f"callbacks.non_finite.skip: expected at least 0, got {skip}")
        self.folder = Path(folder)
        self.skip = skip
        self.skipped = 0
        self._batches: Mapping[str, Batch] = {}
        self._batch_idx = 0
        self._config = ""
        self._finite: Callable[[], bool] | None = None
        self._skipping = False
        self._buffers: Saved | None = None
        self._weights: Mapping[str, Tensor] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the batch, and the running statistics if the step may be skipped."""
        self._batches, self._batch_idx = batch, batch_idx
        begins = batch_idx % trainer.accumulate_grad_batches == 0
        if self.skipped < self.skip and begins:
            with torch.no_grad():
                self._buffers = Saved(pl_module.buffers())

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Starts the check of the loss; with several processes, completes it.

        Raises:
            NonFiniteLossError: The loss is not finite, and this is one of several processes.
        """
        self._finite = ask(torch.isfinite(loss))
        if dist.world_size() > 1:
            self._check(trainer, pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the check of the loss, before the optimiser steps.

        Raises:
            NonFiniteLossError: Names the likely cause and the file with the evidence.
        """
        self._check(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Checks that the norm of the gradients is finite; skips the step if it may.

        Raises:
            NonFiniteLossError: It is not; names the first affected parameter.
        """
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._agree(pl_module)
        if not scaled and not self._skipping:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
            norm = dist.whole(norm)
            if not bool(torch.isfinite(norm)):
                self._refuse_gradient(trainer, pl_module)
            self._agree(pl_module)  # each process may hold other parameters
        if self._skipping:
            self._leave_out(optimizer, scaled)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses to evaluate weights that are not finite, of a training."""
        if trainer.state.fn == "fit":
            self._check_weights(trainer, pl_module, pl_module.state_dict())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses weights with which the loss is not finite, before they are saved.

        Raises:
            NonFiniteLossError: The loss of the validation is not, nor is that of the last step.
        """
        losses = {n: v for n, v in trainer.callback_metrics.items() if n.endswith("/loss")}
        if trainer.state.fn != "fit" or not self._batches or all_finite(losses):
            return
        buffers = Saved(pl_module.buffers())
        with self._alone(trainer, pl_module):
            step = self._step(trainer, pl_module)
            terms, module = rerun(step) if can_repeat(pl_module) else ({}, None)
        with torch.no_grad():
            buffers.restore()
        if not all(map(math.isfinite, terms.values())):
            self._refuse_weights(trainer, f"output: {module or 'none in a module, but the loss'}")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuses to save weights that are not finite, so that the last good ones stay."""
        self._check_weights(trainer, pl_module, checkpoint["state_dict"])

    def state_dict(self) -> dict[str, Any]:
        """Returns how many steps were skipped."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from the resumed run."""
        self.skipped = state_dict["skipped"]

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite, self._finite = self._finite, None
        if finite is None:
            return
        broken = not finite()
        if not self._concerns(trainer, pl_module, broken):
            return
        with self._alone(trainer, pl_module):
            if broken:
                self._refuse_loss(trainer, pl_module)

    def _refuse_loss(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = self._step(trainer, pl_module)
        alone = can_repeat(pl_module)
        unknown = "unknown: synchronised batch norm cannot repeat a step in one process alone"
        terms, module = rerun(step) if alone else ({}, unknown)
        first = module or "none in a module, so the loss itself"
        found = f"the loss of step {trainer.global_step} is not finite"
        self._refuse(
            step, found, terms, f"First non-finite output: {first}", cause_of_loss(step, alone)
        )

    def _refuse_gradient(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lit: Any = pl_module
        worst = f"{worst_gradient(lit.model)}, not found again in this batch"
        found = f"the gradient of step {trainer.global_step} is not finite, the loss is"
        with self._alone(trainer, pl_module):
            step = self._step(trainer, pl_module)
            terms, names = regrade(step) if can_repeat(pl_module) else ({}, [])
            first = f"First non-finite gradient: {names[0] if names else worst}"
            self._refuse(step, found, terms, first, cause_of_gradient(step, bool(names)))

    def _check_weights(
        self, trainer: Trainer, pl_module: LightningModule, state: Mapping[str, Tensor]
    ) -> None:
        learned = {name for name, _ in pl_module.named_parameters()}
        checked = {n: v for n, v in state.items() if n in learned or n.endswith(RUNNING)}
        broken = next((name for name, value in checked.items() if not all_finite(value)), None)
        for name in filter(None, dist.gathered(broken)):  # processes may hold other parts
            self._refuse_weights(trainer, f"weight: {name}")

    def _refuse_weights(self, trainer: Trainer, first: str) -> NoReturn:
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        raise NonFiniteLossError(
            f"the weights after step {trainer.global_step} are not finite, or too large.\n"
            f"First non-finite {first}.\n"
            f"Likely cause: {too_fast(rate)}.\n"
            "They are not saved; earlier checkpoints are intact."
        )

    def _refuse(
        self, step: Step, found: str, terms: Mapping[str, float], first: str, cause: str
    ) -> None:
        """Skips the step, or saves the evidence and raises the error that ends the run."""
        names = {source: file_names(batch) for source, batch in step.batches.items()}
        listed = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
        text = f"{found}: {listed}.\n{first}.\nLikely cause: {cause}.\nImages: {names}."
        if self.skipped < self.skip:
            self._skipping = True
            logger.warning(
                "%s\nThis step is skipped (%d of %d).", text, self.skipped + 1, self.skip
            )
            return
        path = self.folder / f"rank_{dist.rank()}.pt"
        write_evidence(path, step, self._config, terms, first.partition(": ")[2], cause)
        raise NonFiniteLossError(
            f"{text}\nBatch, loss terms and weights are saved: densekit replay {path}"
        )

    def _agree(self, pl_module: LightningModule) -> None:
        """Makes all processes skip the step if one does."""
        if self.skip and dist.world_size() > 1:
            own = torch.tensor(float(self._skipping), device=pl_module.device)
            self._skipping = bool(dist.max_over_processes(own))

    def _leave_out(self, optimizer: Optimizer, scaled: bool) -> None:
        """Makes the optimiser change nothing; a gradient scaler does so itself."""
        self._skipping, self.skipped = False, self.skipped + 1
        if self._buffers is not None:
            self._buffers.restore()
        if not scaled:  # without a gradient a parameter, its momentum and its decay are left alone
            optimizer.zero_grad(set_to_none=True)

    def _concerns(self, trainer: Trainer, pl_module: LightningModule, broken: bool) -> bool:
        """Whether this process has to do with a broken step: all have if weights are divided."""
        if not is_divided(trainer):
            return broken
        return bool(dist.max_over_processes(torch.tensor(float(broken), device=pl_module.device)))

    @contextmanager
    def _alone(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
        """Context in which this process can compute without the others.

        If weights are divided, all processes enter it together and gather them.
        """
        if not is_divided(trainer):
            yield
            return
        lit, strategy = cast(Any, pl_module), cast(Any, trainer.strategy)
        state = lit.model.state_dict()
        self._weights = {name: dist.whole(value).cpu() for name, value in state.items()}
        try:
            with strategy.gathered():
                yield
        finally:
            self._weights = None

    def _step(self, trainer: Trainer, pl_module: LightningModule) -> Step:
        lit: Any = pl_module
        self._config = lit.config
        return Step(
            lit.model,
            self._batches,
            {source: source_heads(trainer, source) for source in self._batches},
            (lit.seed, trainer.global_step, self._batch_idx, dist.rank()),
            str(trainer.precision),
            float(trainer.optimizers[0].param_groups[0]["lr"]),
            lit.micro_batches,
            trainer.precision_plugin.train_step_context,
            self._weights,
        )


def ask(flag: Tensor) -> Callable[[], bool]:
    """Copies a () flag to the host without waiting; the returned function waits for its value."""
    if not flag.is_cuda:
        return lambda: bool(flag)
    copy = flag.to("cpu", non_blocking=True)
    arrived = torch.cuda.current_stream(flag.device).record_event()

    def answer() -> bool:
        arrived.synchronize()
        return bool(copy)

    return answer


def can_repeat(lit: nn.Module) -> bool:
    """Whether a step can be repeated without the other processes."""
    return dist.world_size() == 1 or not any(isinstance(m, nn.SyncBatchNorm) for m in lit.modules())


def is_divided(trainer: Trainer) -> bool:
    """Whether every process holds a part of the weights only, see `densekit.training.fsdp`."""
    return hasattr(trainer.strategy, "gathered")


def worst_gradient(model: nn.Module) -> str:
    """Name of the parameter nearest to the loss whose gradient is not finite, else the largest."""
    parts = {n: dist.own_part(p.grad) for n, p in model.named_parameters() if p.grad is not None}
    graded = {name: gradient for name, gradient in parts.items() if gradient.numel()}
    broken = [name for name, gradient in graded.items() if not is_measurable(gradient)]
    largest = max(graded, key=lambda name: float(graded[name].abs().max()), default="unknown")
    return broken[-1] if broken else largest
