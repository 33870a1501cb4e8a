"""The base class of all heads, built-in or from a plug-in.

Shape letters: B images, D spatial dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from densekit.types import Batch, Decision, Features, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class Head(nn.Module, ABC):
    """Turns levels of the pyramid into losses and predictions.

    A head is built with the specs of every available level, `Head(specs, ...)`, and lists in
    `reads` the levels it uses; no other level is computed. No method's return value depends on
    `self.training`, and none logs.

    Attributes:
        reads: Levels that `forward` and `loss` use; set per instance.
        target_keys: Keys of `Batch` that `loss` needs.
        size_divisor: The padded sides of an image must be multiples of this.
        main_metric: The metric that checkpoints are selected by, and its direction, such as
            `("AP", "max")`; with None they are selected by the validation loss.
        threshold: Probability from which a class that excludes no other counts, where results are
            decided: for all classes, or one each; None is 0.5. Boxes are not dropped by it.
    """

    reads: tuple[str, ...]
    target_keys: tuple[str, ...]
    size_divisor: int = 1
    main_metric: tuple[str, str] | None = None
    threshold: Decision | None = None

    @abstractmethod
    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns raw outputs of fixed shape; exported together with `decode`.

        Args:
            features: Level name to map, at least the levels of `reads`.
            size: (B, D) int64, the size of each image without its padding.
        """

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Turns outputs of `forward` into predictions of static shape, in the network's frame."""

    @abstractmethod
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns the weighted scalar loss terms, whose sum is minimised.

        Zero-safe: without any object, or with every pixel ignored, the terms are zero and every
        parameter of the head still gets a gradient.
        """

    def predict(self, features: Features, size: Tensor) -> Predictions:
        """Applies `forward`, then `decode`; sliding windows and exports come between the two."""
        return self.decode(self(features, size), size)

    def unreached(self, batch: Batch, padded: tuple[int, int]) -> Tensor | None:
        """Returns which objects (B, T) of a batch the head cannot learn; None if it has no anchors.

        No anchor or point is trained towards them.

        Args:
            batch: Its `boxes`, `boxes_valid` and `crowd`.
            padded: Height and width of its images for the network.
        """
        return None

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns the head's default metrics, by name; the configuration may replace them.

        Args:
            info: The data's description of this head's targets: `names`, `ids`, `num_classes`.
        """
        return {}


def check_threshold(threshold: Decision | None, num_classes: int) -> Decision | None:
    """Checks a head's `threshold` and returns it.

    Raises:
        ValueError: It is not between 0 and 1, or not one number or one per class.
    """
    if threshold is None:
        return None
    values = [threshold] if isinstance(threshold, int | float) else list(threshold)
    if len(values) not in (1, num_classes) or not all(0 <= value <= 1 for value in values):
        raise ValueError(
            f"threshold: expected a number from 0 to 1, or one for each of {num_classes} classes,"
            f" got {threshold}"
        )
    return threshold
