"""The eager engine: PyTorch, layer by layer, on any device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from densekit.inference.engine import Engine
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.prepared import prepared
from densekit.model import DenseModel
from densekit.ops.precision import Calls, first_wrong
from densekit.types import Batch, Features, Predictions

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Eager:
    """Runs the layers one by one, under autocast in a lower precision than float32.

    They are those of a copy made for inference, see `densekit.inference.fold.folded`; it is made
    before the first prediction, and changes of the model after that have no effect.

    The layers of the first batch in a lower precision are compared with float32, see
    `densekit.ops.precision`; a warning tells if their numbers are wrong.

    Args:
        model: In eval mode.
        precision: "fp32", "bf16" or "fp16".
    """

    name = "eager"

    def __init__(self, model: DenseModel, precision: str = "fp32") -> None:
        self.model = model
        self.precision = precision
        self._prepared: DenseModel | None = None
        self._tried = precision not in DTYPES

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns what `DenseModel.predict` returns, computed in the precision of the engine."""
        if self._prepared is None:
            self._prepared = prepared(self.model)
        if self._tried:
            with self._autocast():
                return self._prepared.predict(batch, features, heads)
        with self._autocast(), Calls() as calls:
            predictions = self._prepared.predict(batch, features, heads)
        self._tried = True
        device = self.model.mean.device
        if wrong := first_wrong(calls.found, DTYPES[self.precision], device, backward=False):
            warnings.warn(
                f"precision={self.precision} computes wrong numbers here (torch "
                f"{torch.__version__}): {wrong}; they are right with precision=fp32",
                stacklevel=2,
            )
        return predictions

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision not in DTYPES:
            return nullcontext()
        return torch.autocast(self.model.mean.device.type, DTYPES[self.precision])


def build(model: DenseModel, precision: str, cache: Cache | None) -> Engine:
    """Builds the engine; see `densekit.inference.engine.build_engine`."""
    return Eager(model, precision)
