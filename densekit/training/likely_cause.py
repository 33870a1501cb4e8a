"""Why a loss or a gradient became NaN or infinite: data, learning rate, precision or the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densekit.ops import dist
from densekit.training.step import Step, all_finite, regrade
from densekit.types import Batch


def cause_of_loss(step: Step, alone: bool = True) -> str:
    """Describes the most likely cause of a non-finite loss.

    Args:
        step: Computed once more in float32 if the run has a lower precision.
        alone: Whether this process can compute it without the others.
    """
    if wrong := broken_data(step.batches):
        return wrong
    broken = next((n for n, p in step.model.named_parameters() if not all_finite(p)), None)
    if broken is not None:
        return f"the weights were already not finite ({broken}): {too_fast(step.rate)}"
    if step.precision in ("16-mixed", "16-true"):
        return "numbers beyond 65504 overflow in fp16; use precision=bf16-mixed or 32-true"
    if step.is_reduced and alone and _finite_in_float32(step):
        return (
            f"precision={step.precision}, as the loss is finite in float32; use precision=32-true"
        )
    return (
        f"the learning rate {step.rate:g} is too high; lower it, warm up longer or set "
        "trainer.gradient_clip_val"
    )


def cause_of_gradient(step: Step, repeats: bool) -> str:
    """Describes the most likely cause of a non-finite gradient of a finite loss.

    Args:
        step: Computed once more in float32 if the run has a lower precision.
        repeats: Whether the gradient is not finite when recomputed in this process alone.
    """
    if wrong := broken_data(step.batches):
        return wrong
    if not repeats:
        part = "another process" if dist.world_size() > 1 else "another part"
        return f"{part} of the step, or a non-deterministic kernel"
    if step.is_reduced and not regrade(step, exact=True)[1]:
        return (
            f"precision={step.precision}, in which this gradient is wrong or out of range: in "
            "float32 it is finite; use precision=32-true"
        )
    return (
        "a layer or loss with an infinite derivative at its input (a root, a norm or a logarithm "
        "at 0, a division by 0); the learning rate is not to blame"
    )


def too_fast(rate: float) -> str:
    """Says that a step was too large, and what to do about it."""
    return (
        f"an earlier step was too large at learning rate {rate:g}; lower it, warm up longer or set"
        " trainer.gradient_clip_val"
    )


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


def _where(batch: Batch, value: Tensor) -> str:
    """Names the images for which a tensor is not finite, if it has one row per image."""
    names = file_names(batch)
    if len(names) != len(value):
        return ""
    return f", in {[n for n, row in zip(names, value, strict=True) if not all_finite(row)]}"


def _finite_in_float32(step: Step) -> bool:
    terms, _ = regrade(step, exact=True)
    return bool(terms) and all(math.isfinite(term) for term in terms.values())
