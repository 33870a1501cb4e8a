"""The plain way to predict: the whole image in one pass."""

from __future__ import annotations

from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.types import Batch, Features, Result


class WholeImage:
    """Predicts a batch that is already in the network's frame and restores the results.

    The inferer of validation, test and `Predictor`; another one, a sliding window for instance,
    takes its place in the configuration (`inferer`).
    """

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> list[dict[str, Result]]:
        """Returns what `densekit.inference.restore` returns.

        Args:
            model: In eval mode.
            batch: Through `model.resized`.
            features: Of this batch, if they were already computed for the loss.
        """
        return restore(model.predict(batch, features), batch)
