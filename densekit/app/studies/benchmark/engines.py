"""Our network by the engines that a benchmark compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from densekit.inference.engine import build_engine, with_engine
from densekit.model import DenseModel
from densekit.types import Batch

ENGINES = ("eager", "inductor", "onnxruntime", "openvino")
TRAINING_ENGINES = ENGINES[:2]


def losses_of(engine: str, precision: str) -> Callable[..., Mapping[str, Tensor]]:
    """`DenseModel.loss` by an engine; it is called with the model and the batch.

    Raises:
        ValueError: The engine does not train, or not in that precision.
    """
    if engine not in TRAINING_ENGINES:
        accepted = " or ".join(TRAINING_ENGINES)
        raise ValueError(f"engine: expected {accepted} for a training step, got {engine}")
    if precision == "int8":
        raise ValueError("precision: expected fp32, bf16 or fp16 for a training step, got int8")
    if engine == "eager":
        return DenseModel.loss
    return torch.compile(DenseModel.loss, fullgraph=True, dynamic=False)


def predictor_of(model: DenseModel, engine: str, precision: str, batch: Batch) -> DenseModel:
    """A model whose `predict` is an engine's.

    Args:
        model: Ours.
        engine: One of `ENGINES`.
        precision: "int8" is calibrated on the batch.
        batch: What will be predicted.

    Raises:
        ValueError: There is no such engine, or it lacks the precision or the device.
        ImportError: The runtime of the engine is not installed.
    """
    seen = [(batch["image"], batch["size"])]
    made = build_engine(engine, model.eval(), precision, model.mean.device, seen=lambda: seen)
    return with_engine(model, made)
