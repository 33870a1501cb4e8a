"""Targets of classification: the probability of a class.

Shape letters: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densekit.explain.naming import class_name
from densekit.explain.target import Target
from densekit.types import Predictions


class ClassTarget(Target):
    """The probability of a class; its gradient is that of the logit, as in Grad-CAM.

    Args:
        key: Of `Predictions`, with (B, K) probabilities.
        index: The class.
        name: Its name.
    """

    def __init__(self, key: str, index: int, name: str) -> None:
        self.key, self.index, self.name = key, index, name

    def score(self, predictions: Predictions) -> Tensor:
        """Returns the probabilities of the class, (B,)."""
        return predictions[self.key][:, self.index]

    def differentiable(self, outputs: dict[str, Tensor], predictions: Predictions) -> Tensor:
        """Returns the logits of the class; logarithms of the probability if there are none."""
        logits = outputs.get("logits")
        if logits is None or logits.shape != predictions[self.key].shape:
            return self.score(predictions).clamp(min=1e-30).log()
        return logits[:, self.index]


def class_targets(key: str, predictions: Predictions, info: Mapping[str, Any]) -> list[Target]:
    """Returns all classes of one image by descending probability; see `ExplainableHead`."""
    order = predictions[key][0].argsort(descending=True, stable=True).tolist()
    return [ClassTarget(key, k, class_name(info, k)) for k in order]
