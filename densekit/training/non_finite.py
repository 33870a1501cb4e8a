"""Stops at a loss or gradient that is not a number, and keeps what tells why."""

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
from densekit.types import Batch


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient became NaN or infinite."""


class NonFinite(Callback):
    """Checks the loss and the gradients of every step before the weights are touched.

    At the first loss that is NaN or infinite it runs the step again and looks for the first module
    whose output is not finite; at the first such gradient, for the first parameter on the way
    back. It saves batch, file names, loss terms and that name, which
    `torch.load(..., weights_only=True)` reads, and stops the run. Gradients of `16-mixed` are the
    business of its scaler, which leaves such a step out.

    The host asks after it has queued the backward pass: until the answer is there the device has
    work. Where several processes train together it asks before, as their sum of gradients would
    bring the loss of one into the weights of all.

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
        """Keeps the batch at hand."""
        self._batches = batch

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Asks whether the loss is finite.

        Raises:
            NonFiniteLossError: It is not, and this is one of several processes.
        """
        self._finite = ask(torch.isfinite(loss))
        if dist.world_size() > 1:
            self._check(trainer, pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hears the answer; the optimiser has not stepped yet.

        Raises:
            NonFiniteLossError: With the likely cause and where the evidence lies.
        """
        self._check(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Asks whether the norm of the gradients is finite.

        Raises:
            NonFiniteLossError: It is not; with the first parameter concerned.
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
        """Saves the evidence and ends the run."""
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
    """Sends a () flag to the host without waiting; what comes back waits for it and returns it."""
    if not flag.is_cuda:
        return lambda: bool(flag)
    copy = flag.to("cpu", non_blocking=True)
    arrived = torch.cuda.current_stream(flag.device).record_event()

    def answer() -> bool:
        arrived.synchronize()
        return bool(copy)

    return answer


def rerun(pl_module: LightningModule, batches: Mapping[str, Batch]) -> tuple[dict[str, float], str]:
    """Repeats the losses of a step, the same ones, and watches every module.

    Returns:
        The loss terms and the first module with a non-finite output.
    """
    lit: Any = pl_module
    if _cannot_repeat(lit):
        return {}, "unknown: synchronised batch norm cannot repeat a step in one process alone"
    # Hooks do not fire within compiled code. Processes whose loss is finite are not here: to count
    # together with them would wait for ever.
    eager = torch.compiler.set_stance("force_eager")
    autocast = lit.trainer.precision_plugin.train_step_context()  # overflow is one of fp16 alone
    with torch.no_grad(), dist.counted_alone(), eager, autocast, _watch(lit.model) as found:
        terms = lit.losses(batches)
    values = {name: float(term) for name, term in terms.items()}
    return values, found[0] if found else "none within a module, so the loss itself"


def regrade(
    pl_module: LightningModule, batches: Mapping[str, Batch], *, exact: bool = False
) -> tuple[dict[str, float], list[str]]:
    """Repeats the losses and the gradients of a step, in this process alone.

    Args:
        pl_module: Its parameters keep the gradients they have.
        batches: Of the step.
        exact: In float32 whatever the run's precision is.

    Returns:
        The loss terms and the parameters whose gradient is not finite, in the order of backward.
    """
    lit: Any = pl_module
    if _cannot_repeat(lit):
        return {}, []
    found: list[str] = []

    def note(name: str) -> Callable[[Tensor], None]:
        return lambda gradient: None if _measurable(gradient) else found.append(name)

    named = {n: p for n, p in lit.model.named_parameters() if p.requires_grad}
    handles = [parameter.register_hook(note(name)) for name, parameter in named.items()]
    cast = nullcontext() if exact else lit.trainer.precision_plugin.train_step_context()
    eager = torch.compiler.set_stance("force_eager")
    try:
        with torch.enable_grad(), dist.counted_alone(), eager, cast:
            terms = lit.losses(batches)
            total = torch.stack([term.float() for term in terms.values()]).sum()
        # Not backward(): its sums over processes would wait for those that are not here.
        torch.autograd.grad(total, list(named.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return {name: float(term.detach()) for name, term in terms.items()}, found


def _cannot_repeat(lit: Any) -> bool:
    """Whether a step needs the other processes."""
    return dist.world_size() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in lit.modules())


def _measurable(gradient: Tensor) -> bool:
    """Whether a gradient is finite, and small enough for its norm to be so."""
    return bool(torch.isfinite(torch.linalg.vector_norm(gradient.float())))


def worst_gradient(pl_module: LightningModule) -> str:
    """The parameter nearest to the loss whose gradient is not finite, else the largest."""
    model: Any = pl_module.model
    graded = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    broken = [name for name, gradient in graded.items() if not _measurable(gradient)]
    largest = max(graded, key=lambda name: float(graded[name].abs().max()), default="unknown")
    return broken[-1] if broken else largest


@contextmanager
def _watch(model: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules with a non-finite output, in the order they ran."""
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
    """Says in words what most often leads to a loss that is not finite."""
    if wrong := broken_data(batches):
        return wrong
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    broken = next((n for n, p in pl_module.named_parameters() if not all_finite(p)), None)
    if broken is not None:
        return (
            f"weights were already not finite ({broken}): an earlier step was too large at "
            f"learning rate {rate:g}; lower it, warm up longer or set trainer.gradient_clip_val"
        )
    if str(trainer.precision) in ("16-mixed", "16-true"):
        return "numbers beyond 65504 overflow in fp16; use precision=bf16-mixed or 32-true"
    if _is_reduced(trainer) and _finite_in_float32(pl_module, batches):
        return (
            f"precision={trainer.precision}: in float32 the loss is finite; use precision=32-true"
        )
    return (
        f"the learning rate {rate:g} is too high; lower it, warm up longer or set "
        "trainer.gradient_clip_val"
    )


def cause_of_gradient(
    trainer: Trainer, pl_module: LightningModule, batches: Mapping[str, Batch], repeats: bool
) -> str:
    """Says in words what most often leads from a finite loss to a gradient that is not.

    Args:
        trainer: Of the run.
        pl_module: Its model is run once more, in float32, if the run is not.
        batches: Of the step.
        repeats: Whether the gradient is not finite in this process alone either.
    """
    if wrong := broken_data(batches):
        return wrong
    if not repeats:
        part = "another process" if dist.world_size() > 1 else "another part"
        return f"{part} of the step, or a kernel that does not compute the same numbers twice"
    if _is_reduced(trainer) and not regrade(pl_module, batches, exact=True)[1]:
        return (
            f"precision={trainer.precision} computes this gradient wrongly or beyond its range, in "
            "float32 it is finite; use precision=32-true"
        )
    return (
        "a layer or loss whose derivative is infinite where it is evaluated (a root, a norm or a "
        "logarithm at 0, a division by 0); the learning rate is not to blame"
    )


def _finite_in_float32(pl_module: LightningModule, batches: Mapping[str, Batch]) -> bool:
    terms, _ = regrade(pl_module, batches, exact=True)
    return bool(terms) and all(math.isfinite(term) for term in terms.values())


def _is_reduced(trainer: Trainer) -> bool:
    return not str(trainer.precision).startswith(("32", "64"))


def broken_data(batches: Mapping[str, Batch]) -> str | None:
    """What is wrong with the images or the targets of a step."""
    for source, batch in batches.items():
        for name, value in tensors(batch).items():
            if not all_finite(value):
                broken = f"{name} of data set {source!r} is not finite: the data are broken"
                return broken + _where(batch, value)
        wrong = bad_boxes(batch)
        if wrong:
            return f"data set {source!r} has boxes without an area, in {wrong}"
    return None


def _where(batch: Batch, value: Tensor) -> str:
    """Which images a tensor is not finite for, if it has a row for each."""
    names = file_names(batch)
    if len(names) != len(value):
        return ""
    return f", in {[n for n, row in zip(names, value, strict=True) if not all_finite(row)]}"


def bad_boxes(batch: Batch) -> list[str]:
    """Files whose valid boxes have no area."""
    if "boxes" not in batch or "boxes_valid" not in batch:
        return []
    boxes = batch["boxes"]  # (B, T, 4)
    empty = (boxes[..., 2:] <= boxes[..., :2]).any(dim=-1) & batch["boxes_valid"]
    names = file_names(batch)
    return [name for name, bad in zip(names, empty.any(dim=1).tolist(), strict=False) if bad]


def file_names(batch: Batch) -> list[str]:
    """Path of every image, or its number where it has none."""
    return [str(meta.get("path", i)) for i, meta in enumerate(batch.get("meta", []))]


def tensors(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a batch, those of plug-ins too."""
    flat = {**batch, **batch.get("extra", {})}
    return {name: value.detach() for name, value in flat.items() if isinstance(value, Tensor)}
