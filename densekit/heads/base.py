"""What a head is: the contract that every head, ours or a plug-in's, keeps.

Shape letters: B images, D spatial dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from densekit.types import Batch, Features, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class Head(nn.Module, ABC):
    """Turns levels of the pyramid into losses and predictions.

    A head is built with the specs of every level that could exist, `Head(specs, ...)`, and says
    in `reads` which of them it wants; nothing else is computed. No method changes what it returns
    with `self.training`, and none logs.

    Attributes:
        reads: Levels that `forward` and `loss` look up; set by the instance.
        target_keys: Keys of `Batch` that `loss` needs.
        size_divisor: The padded sides of an image must be multiples of this.
        main_metric: The metric that the head is judged by and what of it is better, `("AP",
            "max")`; None leaves that to the loss of validation.
    """

    reads: tuple[str, ...]
    target_keys: tuple[str, ...]
    size_divisor: int = 1
    main_metric: tuple[str, str] | None = None

    @abstractmethod
    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Raw outputs of fixed shape; exported together with `decode`.

        Args:
            features: Levels by name, at least those of `reads`.
            size: (B, D) int64, the size of each image without its padding.
        """

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Predictions of static shape in the network's frame, from what `forward` returned."""

    @abstractmethod
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Scalar terms, already weighted; their sum is minimised.

        Zero-safe: with no object, or every pixel ignored, the terms are zero and every parameter
        of the head still gets a gradient.
        """

    def predict(self, features: Features, size: Tensor) -> Predictions:
        """`decode` of `forward`; sliding windows and exported engines stand between the two."""
        return self.decode(self(features, size), size)

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """The metrics this head is judged by unless the configuration says otherwise.

        Args:
            info: What the data says of this head's targets: `names`, `ids`, `num_classes`.
        """
        return {}
