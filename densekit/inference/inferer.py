"""What stands between a batch and its results: the protocol that inferers share.

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
"""Keys of `Predictions` that hold (B, K, *S) logits of every pixel."""


class Inferer(ABC):
    """Turns a batch into results; for validation, test and `Predictor` alike.

    One that wraps another inferer derives from `densekit.inference.WrappingInferer`.

    Attributes:
        whole_image: Whether the network sees every image at once. If not, validation computes no
            loss: the network might not fit a whole image into memory.
        window: The D sides of what the network sees at once, None for whole images.
    """

    whole_image: bool = False
    window: tuple[int, ...] | None = None

    @abstractmethod
    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Predictions of each head in the network's frame, as `DenseModel.predict` gives them.

        Args:
            model: In eval mode.
            batch: Through `model.resized`; `image` and `size` are looked at.
            features: Of this batch, if they were already computed for the loss.
        """

    def check(self, model: DenseModel) -> None:  # noqa: B027, most have nothing to refuse
        """Refuses, with a ValueError, a model that it cannot predict with; before any image."""

    def finish(
        self, model: DenseModel, results: list[dict[str, Result]]
    ) -> list[dict[str, Result]]:
        """Changes results in the original frame; leaves them by default."""
        return results

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> list[dict[str, Result]]:
        """Results of a batch, see `densekit.inference.restore.restore`.

        Args:
            model: In eval mode.
            batch: Through `model.resized`; its `meta` says the original sizes.
            features: Of this batch, if they were already computed for the loss.
        """
        return self.finish(model, restore(self.predict(model, batch, features), batch))


def logits_of(predictions: Mapping[str, Predictions], who: str) -> dict[str, tuple[str, Tensor]]:
    """Head name to the key and the (B, K, *S) logits of each head.

    Args:
        predictions: Of every head of a model.
        who: The inferer that asks, for the message.

    Raises:
        ValueError: A head gives no logits: boxes, for instance, cannot be averaged.
    """
    found = {}
    for head, of_head in predictions.items():
        key = next((key for key in LOGITS if key in of_head), None)
        if key is None:
            raise ValueError(
                f"inferer: {who} joins the logits of pixels, but heads.{head} gives "
                f"{sorted(of_head)}; accepted are heads that give logits, other models take "
                "densekit.inference.WholeImage"
            )
        found[head] = (key, of_head[key])
    return found
