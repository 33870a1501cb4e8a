"""What is explained: one number per image, computed from the predictions of a head.

Shape letters: B images, S the D sizes of an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from densekit.types import Predictions

ANY_METHOD = ("gradcam", "layercam", "integrated_gradients", "rise")


class Target(ABC):
    """One number per image, computed from the predictions of a head.

    Attributes:
        name: What is explained, usually the class; `target=NAME` selects it.
        methods: The methods that are sound for it, the preferred one first.
        is_local: Whether it depends on a part of the image, so that every level that the head reads
            matters and not the deepest one alone.
    """

    name: str
    methods: Sequence[str] = ANY_METHOD
    is_local: bool = False

    @abstractmethod
    def score(self, predictions: Predictions) -> Tensor:
        """Returns (B,), larger the more the prediction still holds; also of any engine's output."""

    def differentiable(self, outputs: dict[str, Tensor], predictions: Predictions) -> Tensor:
        """Returns (B,), the number whose gradient is taken; `score` by default.

        Args:
            outputs: Of the head's `forward`.
            predictions: Of its `decode`.
        """
        return self.score(predictions)

    def outline(self, sides: Sequence[int]) -> Tensor | None:
        """Returns (*S) bool, the region that is explained, in the network's frame; None for all.

        Args:
            sides: S.
        """
        return None


@runtime_checkable
class ExplainableHead(Protocol):
    """A head that says itself what can be explained of its predictions.

    The heads of densekit need no such method: their predictions have known keys, see
    `densekit.explain.choosing`.
    """

    def explain_targets(self, predictions: Predictions, info: Mapping[str, Any]) -> list[Target]:
        """Returns what can be explained in one image, the best first.

        Args:
            predictions: Of one image, B = 1.
            info: The data's description of this head's targets: `names`, `ids`, `num_classes`.
        """
