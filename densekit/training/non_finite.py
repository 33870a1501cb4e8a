"""Stops a run at a NaN or infinite loss or gradient, and saves the evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from densekit._files import replacing
from densekit.ops import dist
from densekit.training.micro_batches import divided
from densekit.types import Batch


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient became NaN or infinite."""


class NonFinite(Callback):
    """Checks the loss and the gradients of every step before the weights are updated.

    At the first NaN or infinite loss it repeats the step to find the first module whose output is
    not finite; at the first such gradient, the first parameter in backward order. It saves the
    batch, file names, loss terms and that name, which `torch.load(..., weights_only=True)` reads,
    and stops the run. Gradients of `16-mixed` are left to its scaler, which skips such steps.

    The host reads the flag after it has queued the backward pass, so that the device keeps busy.
    With several processes it reads it before, because summing the gradients would spread the loss
    of one process to the weights of all.

    Args:
        folder: Where `rank_0.pt` is saved.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._batches: Mapping[str, Batch] = {}
        self._finite: Callable[[], bool] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the batch."""
        self._batches = batch

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
        """Checks that the norm of the gradients is finite.

        Raises:
            NonFiniteLossError: It is not; names the first affected parameter.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
        if bool(torch.isfinite(norm)):
            return
        terms, names = regrade(pl_module, self._batches)
        first = names[0] if names else f"{worst_gradient(pl_module)}, not found again in this batch"
        cause = cause_of_gradient(trainer, pl_module, self._batches, bool(names))
        found = f"the gradient of step {trainer.global_step} is not finite, the loss is"
        self._stop(trainer, found, terms, f"First non-finite gradient: {first}", cause)

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite, self._finite = self._finite, None
        if finite is None or finite():
            return
        terms, module = rerun(pl_module, self._batches)
        cause = likely_cause(trainer, pl_module, self._batches)
        found = f"the loss of step {trainer.global_step} is not finite"
        self._stop(trainer, found, terms, f"First non-finite output: {module}", cause)

    def _stop(
        self, trainer: Trainer, found: str, terms: Mapping[str, float], first: str, cause: str
    ) -> NoReturn:
        """Saves the evidence and raises the error that ends the run."""
        names = {source: file_names(batch) for source, batch in self._batches.items()}
        path = self.folder / f"rank_{trainer.global_rank}.pt"
        evidence = {
            "batches": {source: tensors(batch) for source, batch in self._batches.items()},
            "files": names,
            "terms": dict(terms),
            "module": first.partition(": ")[2],
            "step": trainer.global_step,
            "cause": cause,
        }
        with replacing(path) as part:
            torch.save(evidence, part)
        listed = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
        raise NonFiniteLossError(
            f"{found}: {listed}.\n"
            f"{first}.\n"
            f"Likely cause: {cause}.\n"
            f"Images: {names}.\n"
            f"Batch and loss terms are saved in {path}."
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


def rerun(pl_module: LightningModule, batches: Mapping[str, Batch]) -> tuple[dict[str, float], str]:
    """Recomputes the losses of a step, exactly, and checks the output of every module.

    Returns:
        The loss terms and the first module with a non-finite output.
    """
    lit: Any = pl_module
    if _cannot_repeat(lit):
        return {}, "unknown: synchronised batch norm cannot repeat a step in one process alone"
    # Hooks do not fire within compiled code. Processes whose loss is finite are not here: a
    # collective operation would wait for them for ever.
    eager = torch.compiler.set_stance("force_eager")
    autocast = lit.trainer.precision_plugin.train_step_context()  # an overflow needs its dtype
    with torch.no_grad(), dist.counted_alone(), eager, autocast, _watch(lit.model) as found:
        each = [lit.losses(part) for part in divided(batches, lit.micro_batches)]
    return _means(each), found[0] if found else "none in a module, so the loss itself"


def regrade(
    pl_module: LightningModule, batches: Mapping[str, Batch], *, exact: bool = False
) -> tuple[dict[str, float], list[str]]:
    """Recomputes the losses and the gradients of a step, in this process alone.

    Args:
        pl_module: The gradients of its parameters are left unchanged.
        batches: Of the step.
        exact: Whether to compute in float32, whatever the run's precision.

    Returns:
        The loss terms and the parameters whose gradient is not finite, in backward order.
    """
    lit: Any = pl_module
    if _cannot_repeat(lit):
        return {}, []
    found: list[str] = []
    each: list[dict[str, Tensor]] = []

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda gradient: None if _measurable(gradient) else found.append(name)

    named = {n: p for n, p in lit.model.named_parameters() if p.requires_grad}
    handles = [parameter.register_hook(note(name)) for name, parameter in named.items()]
    cast = nullcontext() if exact else lit.trainer.precision_plugin.train_step_context()
    eager = torch.compiler.set_stance("force_eager")
    try:
        for part in divided(batches, lit.micro_batches):
            with torch.enable_grad(), dist.counted_alone(), eager, cast:
                each.append(lit.losses(part))
                total = torch.stack([term.float() for term in each[-1].values()]).sum()
            # Not backward(): its all-reduce would wait for processes that are not here.
            torch.autograd.grad(total, list(named.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return _means(each), found


def _means(each: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each loss term over the micro-batches of a step."""
    return {name: sum(float(t[name].detach()) for t in each) / len(each) for name in each[0]}


def _cannot_repeat(lit: Any) -> bool:
    """Whether a step cannot be repeated without the other processes."""
    return dist.world_size() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in lit.modules())


def _measurable(gradient: Tensor) -> bool:
    """Whether a gradient has a finite norm."""
    return bool(torch.isfinite(torch.linalg.vector_norm(gradient.float())))


def worst_gradient(pl_module: LightningModule) -> str:
    """Name of the parameter nearest to the loss whose gradient is not finite, else the largest."""
    model: Any = pl_module.model
    graded = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    broken = [name for name, gradient in graded.items() if not _measurable(gradient)]
    largest = max(graded, key=lambda name: float(graded[name].abs().max()), default="unknown")
    return broken[-1] if broken else largest


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


def all_finite(value: Any) -> bool:
    """Whether every floating-point tensor in nested dicts and sequences is finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(all_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(all_finite(item) for item in value)
    return True


def likely_cause(trainer: Trainer, pl_module: LightningModule, batches: Mapping[str, Batch]) -> str:
    """Describes the most likely cause of a non-finite loss."""
    if wrong := broken_data(batches):
        return wrong
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    broken = next((n for n, p in pl_module.named_parameters() if not all_finite(p)), None)
    if broken is not None:
        return (
            f"the weights were already not finite ({broken}): an earlier step was too large at "
            f"learning rate {rate:g}; lower it, warm up longer or set trainer.gradient_clip_val"
        )
    if str(trainer.precision) in ("16-mixed", "16-true"):
        return "numbers beyond 65504 overflow in fp16; use precision=bf16-mixed or 32-true"
    if _is_reduced(trainer) and _finite_in_float32(pl_module, batches):
        return (
            f"precision={trainer.precision}, as the loss is finite in float32; use precision="
            "32-true"
        )
    return (
        f"the learning rate {rate:g} is too high; lower it, warm up longer or set "
        "trainer.gradient_clip_val"
    )


def cause_of_gradient(
    trainer: Trainer, pl_module: LightningModule, batches: Mapping[str, Batch], repeats: bool
) -> str:
    """Describes the most likely cause of a non-finite gradient of a finite loss.

    Args:
        trainer: Of the run.
        pl_module: Its model is run once more in float32 if the run has a lower precision.
        batches: Of the step.
        repeats: Whether the gradient is not finite when recomputed in this process alone.
    """
    if wrong := broken_data(batches):
        return wrong
    if not repeats:
        part = "another process" if dist.world_size() > 1 else "another part"
        return f"{part} of the step, or a non-deterministic kernel"
    if _is_reduced(trainer) and not regrade(pl_module, batches, exact=True)[1]:
        return (
            f"precision={trainer.precision}, in which this gradient is wrong or out of range: in "
            "float32 it is finite; use precision=32-true"
        )
    return (
        "a layer or loss with an infinite derivative at its input (a root, a norm or a logarithm "
        "at 0, a division by 0); the learning rate is not to blame"
    )


def _finite_in_float32(pl_module: LightningModule, batches: Mapping[str, Batch]) -> bool:
    terms, _ = regrade(pl_module, batches, exact=True)
    return bool(terms) and all(math.isfinite(term) for term in terms.values())


def _is_reduced(trainer: Trainer) -> bool:
    return not str(trainer.precision).startswith(("32", "64"))


def broken_data(batches: Mapping[str, Batch]) -> str | None:
    """Describes what is wrong with the images or targets of a step, None if nothing is."""
    for source, batch in batches.items():
        for name, value in tensors(batch).items():
            if not all_finite(value):
                broken = f"broken data: {name} of data set {source!r} is not finite"
                return broken + _where(batch, value)
        wrong = bad_boxes(batch)
        if wrong:
            return f"broken data: data set {source!r} has boxes without an area, in {wrong}"
    return None


def _where(batch: Batch, value: Tensor) -> str:
    """Names the images for which a tensor is not finite, if it has one row per image."""
    names = file_names(batch)
    if len(names) != len(value):
        return ""
    return f", in {[n for n, row in zip(names, value, strict=True) if not all_finite(row)]}"


def bad_boxes(batch: Batch) -> list[str]:
    """Files with valid boxes that have no area."""
    if "boxes" not in batch or "boxes_valid" not in batch:
        return []
    boxes = batch["boxes"]  # (B, T, 4)
    empty = (boxes[..., 2:] <= boxes[..., :2]).any(dim=-1) & batch["boxes_valid"]
    names = file_names(batch)
    return [name for name, bad in zip(names, empty.any(dim=1).tolist(), strict=False) if bad]


def file_names(batch: Batch) -> list[str]:
    """Path of every image, or its index if it has none."""
    return [str(meta.get("path", i)) for i, meta in enumerate(batch.get("meta", []))]


def tensors(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a batch, including those of plug-ins (`extra`)."""
    flat = {**batch, **batch.get("extra", {})}
    return {name: value.detach() for name, value in flat.items() if isinstance(value, Tensor)}
