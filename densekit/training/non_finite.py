"""Stops at a loss that is not a number, and keeps what is needed to find out why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from densekit.ops import dist
from densekit.types import Batch


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite."""


class NonFinite(Callback):
    """Checks the loss of every step before the weights are touched.

    At the first loss that is NaN or infinite it runs the step again, looks for the first module
    whose output is not finite, saves batch, file names, loss terms and that name, which
    `torch.load(..., weights_only=True)` reads, and stops the run.

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

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite, self._finite = self._finite, None
        if finite is None or finite():
            return
        terms, module = rerun(pl_module, self._batches)
        cause = likely_cause(trainer, pl_module, self._batches)
        names = {source: file_names(batch) for source, batch in self._batches.items()}
        path = self.folder / f"rank_{trainer.global_rank}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        evidence = {
            "batches": {source: tensors(batch) for source, batch in self._batches.items()},
            "files": names,
            "terms": terms,
            "module": module,
            "step": trainer.global_step,
            "cause": cause,
        }
        torch.save(evidence, path)
        listed = ", ".join(f"{name} = {value:g}" for name, value in terms.items())
        raise NonFiniteLossError(
            f"the loss of step {trainer.global_step} is not finite: {listed}.\n"
            f"First non-finite output: {module}.\n"
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
    if dist.world_size() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in lit.modules()):
        return {}, "unknown: synchronised batch norm cannot repeat a step in one process alone"
    # Hooks do not fire within compiled code. Processes whose loss is finite are not here: to count
    # together with them would wait for ever.
    eager = torch.compiler.set_stance("force_eager")
    autocast = lit.trainer.precision_plugin.train_step_context()  # overflow is one of fp16 alone
    with torch.no_grad(), dist.counted_alone(), eager, autocast, _watch(lit.model) as found:
        terms = lit.losses(batches)
    values = {name: float(term) for name, term in terms.items()}
    return values, found[0] if found else "none within a module, so the loss itself"


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
    """Says in words what most often leads to what is found."""
    for source, batch in batches.items():
        for name, value in tensors(batch).items():
            if not all_finite(value):
                return f"{name} of data set {source!r} is not finite: the data are broken"
        wrong = bad_boxes(batch)
        if wrong:
            return f"data set {source!r} has boxes without an area, in {wrong}"
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    broken = next((n for n, p in pl_module.named_parameters() if not all_finite(p)), None)
    if broken is not None:
        return (
            f"weights were already not finite ({broken}): an earlier step was too large at "
            f"learning rate {rate:g}; lower it, warm up longer or set trainer.gradient_clip_val"
        )
    if str(trainer.precision) in ("16-mixed", "16-true"):
        return "numbers beyond 65504 overflow in fp16; use precision=bf16-mixed or 32-true"
    return (
        f"the learning rate {rate:g} is too high; lower it, warm up longer or set "
        "trainer.gradient_clip_val"
    )


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
