"""`engine=auto`: the fastest engine that computes this checkpoint right on this machine."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from densekit._files import write_json
from densekit.inference.engine import AUTO, Engine
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.proof import EngineError, first_difference
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions

log = logging.getLogger(__name__)

ROUNDS = 3
"""Timed predictions of each engine, in turn, after the first one."""
RUNTIMES = ("onnxruntime", "openvino")
"""Packages whose versions, or absence, may change the choice."""
CHOICE = "choice.json"


class Auto:
    """Tries every engine on the first batch and becomes the fastest that is right.

    Attributes:
        name: That of the engine, "auto" before the first batch.

    Args:
        model: In eval mode.
        precision: Of all engines.
        builders: Builds each engine, by name.
        cache: Holds the choice of an earlier start.
    """

    def __init__(
        self,
        model: DenseModel,
        precision: str,
        builders: Mapping[str, Callable[[], Engine]],
        cache: Cache | None = None,
    ) -> None:
        self.name = AUTO
        self.model = model
        self.precision = precision
        self._builders = dict(builders)
        self._cache = cache
        self._chosen: Engine | None = None

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns the predictions of the chosen engine, see `DenseModel.predict`."""
        if self._chosen is None:
            self._chosen = self._choose(batch)
            self.name = self._chosen.name
        return self._chosen.predict(batch, features, heads)

    def _choose(self, batch: Batch) -> Engine:
        """Returns the fastest engine on this batch, or that of an earlier start."""
        made: dict[str, Engine] = {}
        if self._cache is None:
            found = self._timed(batch, made)
        else:
            key = {name: _version(name) for name in RUNTIMES}
            folder = self._cache.kept(
                f"{AUTO}-{self.precision}",
                key,
                lambda folder: write_json(folder / CHOICE, self._timed(batch, made)),
                quiet=True,
            )
            found = json.loads((folder / CHOICE).read_text("utf-8"))
        seconds = found["seconds"]
        best = min(seconds, key=seconds.__getitem__)
        log.info("engine=auto takes %s: %s", best, _described(seconds, found["refused"]))
        return made[best] if best in made else self._builders[best]()

    @torch.no_grad()
    def _timed(self, batch: Batch, made: dict[str, Engine]) -> dict[str, dict[str, Any]]:
        """Returns the `seconds` of each engine that is right, and why others are `refused`.

        Args:
            batch: What is predicted.
            made: Receives the engines that are right.

        Raises:
            EngineError: None is.
        """
        expected = type(self.model).predict(self.model, batch)
        refused: dict[str, str] = {}
        for name, build in self._builders.items():
            try:
                engine = build()
                difference = first_difference(expected, engine.predict(batch), self.precision)
            except (EngineError, ImportError, ValueError) as error:
                difference = str(error)
            if difference is None:
                made[name] = engine
            else:
                refused[name] = difference
        if not made:
            raise EngineError(f"engine=auto: expected an engine that works, got {refused}")
        seconds: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(ROUNDS):
            for name, engine in made.items():
                start = time.perf_counter()
                engine.predict(batch)
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        return {"seconds": medians, "refused": refused}


def _described(seconds: Mapping[str, float], refused: Mapping[str, str]) -> str:
    ordered = sorted(seconds.items(), key=lambda item: item[1])
    parts = [f"{name} {value:.3g} s" for name, value in ordered]
    return ", ".join([*parts, *(f"{name} not ({why})" for name, why in refused.items())])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
