"""The plain way to predict: the whole image in one pass."""

from __future__ import annotations

from densekit.inference.inferer import Inferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


class WholeImage(Inferer):
    """Predicts images whole, in one pass of the network.

    The inferer of validation, test and `Predictor`; another one, a sliding window for instance,
    takes its place in the configuration (`inferer`).
    """

    whole_image = True

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """What the model predicts; see `Inferer.predict`."""
        return model.predict(batch, features)
