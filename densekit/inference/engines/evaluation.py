"""An engine in validation and test, where the network is given with each batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from densekit.inference.calibration import Calibration, seen_later
from densekit.inference.engine import build_engine, with_engine
from densekit.model import DenseModel
from densekit.types import Batch, Features, Result


class EngineInferer:
    """Lets an inferer predict by an engine, which is built for the first batch.

    No loss is computed, since an engine returns predictions and no features.

    Args:
        inferer: How a batch is predicted.
        engine: Name of the engine.
        precision: Of the engine.
        checkpoint: The file of the model.
        calibration: Images that the scales of int8 are measured on.
    """

    whole_image = False

    def __init__(
        self,
        inferer: Callable[[DenseModel, Batch], list[dict[str, Result]]],
        engine: str,
        precision: str,
        checkpoint: Path,
        calibration: Calibration | None = None,
    ) -> None:
        self.inferer = inferer
        self._settings = engine, precision, checkpoint
        self._calibration = calibration
        self._model: DenseModel | None = None

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> list[dict[str, Result]]:
        """Returns the results of a batch; see `densekit.inference.inferer.Inferer`."""
        if self._model is None:
            name, precision, checkpoint = self._settings
            seen = seen_later(model, self.inferer, self._calibration)
            engine = build_engine(name, model, precision, model.mean.device, checkpoint, seen)
            self._model = with_engine(model, engine)
        return self.inferer(self._model, batch)
