"""Base class of inferers, which turn a batch into results.

Shape letters: B images, K classes, S the sizes of an image along its axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions, Result

LOGITS = ("logits", "multilabel_logits")
"""Keys of `Predictions` that hold per-pixel logits (B, K, *S)."""


class Inferer(ABC):
    """Turns a batch into results, in validation, test and `Predictor` alike.

    An inferer that wraps another one derives from `densekit.inference.WrappingInferer`.

    Attributes:
        whole_image: Whether the network sees each image as a whole. If not, validation computes no
            loss, because whole images might not fit into memory.
        window: The D sides of what the network sees at once, None for whole images.
    """

    whole_image: bool = False
    window: tuple[int, ...] | None = None

    @abstractmethod
    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Returns each head's predictions in the network's frame, like `DenseModel.predict`.

        Args:
            model: In eval mode.
            batch: Resized by `model.resized`; `image` and `size` are used.
            features: Of this batch, if already computed for the loss.
        """

    def check(self, model: DenseModel) -> None:  # noqa: B027, most have nothing to refuse
        """Raises ValueError for a model that this inferer cannot predict with, before any image."""

    def finish(
        self, model: DenseModel, results: list[dict[str, Result]]
    ) -> list[dict[str, Result]]:
        """Post-processes results in the original frame; does nothing by default."""
        return results

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> list[dict[str, Result]]:
        """Returns the results of a batch, see `densekit.inference.restore.restore`.

        Those of the model's combinations are among them.

        Args:
            model: In eval mode.
            batch: Resized by `model.resized`; its `meta` holds the original sizes.
            features: Of this batch, if already computed for the loss.
        """
        predictions = self.predict(model, batch, features)
        results = self.finish(model, restore(predictions, batch, model.thresholds))
        return [model.combine(result) for result in results]


def logits_of(predictions: Mapping[str, Predictions], user: str) -> dict[str, tuple[str, Tensor]]:
    """Maps each head name to the key of its logits and the logits (B, K, *S).

    Args:
        predictions: Of every head of a model.
        user: The inferer that needs them, for the message.

    Raises:
        ValueError: A head has no logits: boxes, for instance, cannot be averaged.
    """
    found = {}
    for head, of_head in predictions.items():
        key = next((key for key in LOGITS if key in of_head), None)
        if key is None:
            raise ValueError(
                f"inferer: {user} expected per-pixel logits from every head, got {sorted(of_head)} "
                f"from heads.{head}; use densekit.inference.WholeImage for this model"
            )
        found[head] = (key, of_head[key])
    return found
