"""The protocol of engines, and the table of those that exist.

An engine takes the place of `DenseModel.predict`. Inferers (the whole image, sliding window, tiles,
test-time augmentation) call `model.predict` and know of no engine; heads know of none either.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from densekit._names import choose
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


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
    """

    precisions: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)


ENGINES = {"eager": Abilities(("fp32", "bf16", "fp16"), ("cpu", "cuda", "mps"))}
"""What each engine can do. The module of its name has the function `build(model, precision)`."""


def build_engine(
    name: str, model: DenseModel, precision: str = "fp32", device: str | torch.device = "cpu"
) -> Engine:
    """Builds the engine of a model.

    Args:
        name: A key of `ENGINES`.
        model: In eval mode, on the device.
        precision: The type in which the network computes.
        device: Where the network runs.

    Raises:
        ValueError: There is no such engine, or it lacks the precision or the device.
        ImportError: Its runtime is not installed.
    """
    check_engine(name, precision, device)
    module = importlib.import_module(f"densekit.inference.engines.{name}")
    engine: Engine = module.build(model, precision)
    return engine


def check_engine(name: str, precision: str, device: str | torch.device) -> None:
    """Refuses an unknown engine, and a precision or a device that it lacks, before any work.

    Raises:
        ValueError: Names the key and what is accepted.
    """
    abilities = choose("engine", name, ENGINES)
    if precision not in abilities.precisions:
        accepted = " or ".join(abilities.precisions)
        raise ValueError(f"precision: expected {accepted} with engine={name}, got {precision!r}")
    kind = torch.device(device).type
    if kind not in abilities.devices:
        accepted = " or ".join(abilities.devices)
        raise ValueError(f"device: expected {accepted} with engine={name}, got {kind!r}")


def with_engine(model: DenseModel, engine: Engine) -> DenseModel:
    """Returns a copy of a model whose `predict` is the engine's; they share all modules."""
    copied = copy.copy(model)
    own: dict[str, Any] = copied.__dict__
    own["predict"] = engine.predict
    return copied
