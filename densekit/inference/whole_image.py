"""The default inferer: predicts the whole image in one pass."""

from __future__ import annotations

from densekit.inference.inferer import Inferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions


class WholeImage(Inferer):
    """Predicts whole images in one forward pass.

    The default in validation, test and `Predictor`; the configuration key `inferer` replaces it,
    for instance by a sliding window.
    """

    whole_image = True

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Returns the model's predictions; see `Inferer.predict`."""
        return model.predict(batch, features)
