"""The protocol of engines, and the table of those that exist.

An engine takes the place of `DenseModel.predict`. Inferers (the whole image, sliding window, tiles,
test-time augmentation) call `model.predict` and know of no engine; heads know of none either.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from densekit._names import unknown
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions

Pair = tuple[Tensor, Tensor]
"""`image` (B, C, *S), uint8 or in the unit of the model's mean and std, and `size` (B, D)."""
Seen = Callable[[], list[Pair]]
"""Returns what the network sees of calibration images, see `densekit.inference.calibration`."""


class Engine(Protocol):
    """Computes the predictions of one model.

    Attributes:
        name: A key of `ENGINES`.
        precision: The type in which the network computes: "fp32", "bf16", "fp16" or "int8".
    """

    name: str
    precision: str

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns what `DenseModel.predict` returns for the same arguments."""


@dataclass(frozen=True)
class Abilities:
    """What an engine can do.

    Attributes:
        precisions: Accepted precisions.
        devices: Types of devices that it runs on.
        cached: Whether it is compiled, so that the next start takes it from the cache.
    """

    precisions: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    cached: bool = True


ENGINES = {
    "eager": Abilities(("fp32", "bf16", "fp16"), ("cpu", "cuda", "mps"), cached=False),
    "inductor": Abilities(("fp32", "bf16")),
    "onnxruntime": Abilities(("fp32", "int8")),
    "openvino": Abilities(("fp32", "bf16", "int8")),
}
"""What each engine can do. `densekit.inference.engines` has a module of each name, with a function
`build(model, precision, cache)`, which also takes `seen` where it has int8."""

AUTO = "auto"
"""Name for the fastest engine that is proven on the first images."""


def build_engine(
    name: str,
    model: DenseModel,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    seen: Seen | None = None,
) -> Engine:
    """Builds the engine of a model.

    Args:
        name: A key of `ENGINES`, or "auto" for the fastest one that is proven on the first images.
        model: In eval mode, on the device.
        precision: The type in which the network computes.
        device: Where the network runs.
        checkpoint: The file of the model, beside which compiled programs are kept; without one
            they last as long as the engine.
        seen: What the network sees of calibration images, for int8. It is called when a program is
            built, not when one is taken from the cache.

    Raises:
        ValueError: There is no such engine, or it lacks the precision or the device.
        ImportError: Its runtime is not installed.
    """
    check_engine(name, precision, device)
    building = importlib.import_module("densekit.inference.engines.building")
    engine: Engine = building.build(name, model, precision, torch.device(device), checkpoint, seen)
    return engine


def able_engines(precision: str, device: str | torch.device) -> list[str]:
    """Names of the engines that have a precision on a device, installed or not."""
    kind = torch.device(device).type
    return [
        name
        for name, abilities in ENGINES.items()
        if precision in abilities.precisions and kind in abilities.devices
    ]


def check_engine(name: str, precision: str, device: str | torch.device) -> None:
    """Refuses an unknown engine, and a precision or a device that it lacks, before any work.

    Raises:
        ValueError: Names the key and what is accepted.
    """
    if name not in (*ENGINES, AUTO):
        raise ValueError(unknown("engine", name, (*ENGINES, AUTO)))
    chosen = ENGINES.values() if name == AUTO else [ENGINES[name]]
    precisions = dict.fromkeys(one for abilities in chosen for one in abilities.precisions)
    if precision not in precisions:
        accepted = " or ".join(precisions)
        raise ValueError(f"precision: expected {accepted} with engine={name}, got {precision!r}")
    devices = dict.fromkeys(
        one
        for abilities in chosen
        if precision in abilities.precisions
        for one in abilities.devices
    )
    kind = torch.device(device).type
    if kind not in devices:
        words = f"engine={name} precision={precision}"
        raise ValueError(f"device: expected {' or '.join(devices)} with {words}, got {kind!r}")


def with_engine(model: DenseModel, engine: Engine) -> DenseModel:
    """Returns a copy of a model whose `predict` is the engine's; they share all modules."""
    copied = copy.copy(model)
    own: dict[str, Any] = copied.__dict__
    own["predict"] = engine.predict
    return copied


def without_engine(model: DenseModel) -> DenseModel:
    """Returns a copy of a model of `with_engine` that predicts itself; they share all modules."""
    copied = copy.copy(model)
    copied.__dict__.pop("predict", None)
    return copied
