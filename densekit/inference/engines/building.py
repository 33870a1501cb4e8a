"""Building an engine by its name."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

import torch

from densekit.inference.engine import AUTO, ENGINES, Engine, Seen, able_engines
from densekit.inference.engines.cache import Cache, cache_beside
from densekit.inference.engines.choose import Auto
from densekit.model import DenseModel


def build(
    name: str,
    model: DenseModel,
    precision: str,
    device: torch.device,
    checkpoint: str | Path | None,
    seen: Seen | None = None,
) -> Engine:
    """Builds an engine whose settings were checked, see `densekit.inference.engine`."""
    names = able_engines(precision, device) if name == AUTO else [name]
    cache = None
    if checkpoint is not None and any(ENGINES[one].cached for one in names):
        cache = cache_beside(checkpoint, model)
    if name != AUTO:
        return _built(name, model, precision, cache, seen)
    builders = {one: partial(_built, one, model, precision, cache, seen) for one in names}
    return Auto(model, precision, builders, cache)


def _built(
    name: str, model: DenseModel, precision: str, cache: Cache | None, seen: Seen | None
) -> Engine:
    module = importlib.import_module(f"densekit.inference.engines.{name}")
    more = {"seen": seen} if precision == "int8" else {}
    engine: Engine = module.build(model, precision, cache, **more)
    return engine
