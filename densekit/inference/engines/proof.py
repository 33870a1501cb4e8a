"""Proof that an engine computes what the model computes, on the images at hand.

A compiler or a kernel may be wrong on one processor and right on all others. So the first
predictions of an engine are compared with those of PyTorch in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from densekit.ops.boxes import box_iou
from densekit.types import Predictions

TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.1, "int8": 0.3}
"""Largest error of a tensor relative to its norm, by precision."""
AGREEMENT = {"fp32": 0.95, "fp16": 0.8, "bf16": 0.8, "int8": 0.7}
"""Smallest share of the confident boxes that are found again, by precision."""
CONFIDENT = 0.5
"""Share of the best score from which on a box counts: the order of the weak ones is chance."""
FOUND = 0.5
"""IoU from which on a box of the same class is the same."""
BOXES = ("boxes", "scores", "labels", "valid")


class EngineError(RuntimeError):
    """An engine cannot be built for this model, or computes wrong numbers on this machine."""


def first_difference(
    expected: Mapping[str, Predictions], found: Mapping[str, Predictions], precision: str
) -> str | None:
    """Describes the first prediction that is further off than rounding explains; None if none is.

    Args:
        expected: Predictions in float32.
        found: Those of the engine.
        precision: Of the engine, a key of `TOLERANCE`.
    """
    for head, of_head in expected.items():
        if "boxes" in of_head:
            share = agreement(of_head, found[head])
            if share < AGREEMENT[precision]:
                return (
                    f"heads.{head}: expected at least {AGREEMENT[precision]:.0%} of the boxes of"
                    f" float32, got {share:.0%}"
                )
            continue
        for key, value in of_head.items():
            if not value.is_floating_point():
                continue
            off = relative_error(value, found[head][key])
            if not off <= TOLERANCE[precision]:  # NaN too
                return (
                    f"heads.{head}: expected {key} within {TOLERANCE[precision]:g} of float32,"
                    f" relative to its norm, got {off:.2g}"
                )
    return None


def relative_error(expected: Tensor, found: Tensor) -> float:
    """Norm of the difference relative to the norm of what is expected."""
    expected, found = expected.float(), found.float()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


def is_comparable(predictions: Mapping[str, Predictions]) -> bool:
    """Whether there is anything to compare: a head without boxes, or a box."""
    return any("boxes" not in one or bool(one["valid"].any()) for one in predictions.values())


def agreement(expected: Predictions, found: Predictions) -> float:
    """Share of the confident boxes of `expected` that `found` has too; 1 if there are none."""
    hits = []
    for b in range(len(expected["boxes"])):
        one, other = ({key: of[key][b] for key in BOXES} for of in (expected, found))
        kept = one["valid"] & (one["scores"] >= CONFIDENT * one["scores"].max())
        same = one["labels"][kept][:, None] == other["labels"][other["valid"]]
        iou = box_iou(one["boxes"][kept].float(), other["boxes"][other["valid"]].float())
        hits.append((same & (iou >= FOUND)).any(1))
    found_again = torch.cat(hits)
    return float(found_again.float().mean()) if len(found_again) else 1.0
