"""Targets of segmentation: a class within the region that was predicted for it.

Shape letters: B images, K classes, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densekit.explain.naming import class_name, side_name
from densekit.explain.target import Target
from densekit.inference.restore import restore_mask
from densekit.ops.padding import corner
from densekit.types import Decision, Predictions


class RegionTarget(Target):
    """The mean probability of a class in the region where it was predicted.

    The gradient is that of the mean logit in the region (Vinogradova et al. 2020, "Towards
    interpretable semantic segmentation via gradient-weighted class activation mapping").

    Args:
        key: Of `Predictions`, with (B, K, *S) logits.
        channel: The class's channel of the logits.
        region: (*S) bool.
        name: Name of the class.
        positive: Whether the class is the positive or the negative side of its only logit.
    """

    def __init__(
        self, key: str, channel: int, region: Tensor, name: str, *, positive: bool = True
    ) -> None:
        self.key, self.channel, self.region, self.name = key, channel, region, name
        self.sign = 1.0 if positive else -1.0

    def score(self, predictions: Predictions) -> Tensor:
        """Returns the mean probabilities of the class in the region, (B,)."""
        return self._inside(_probabilities(predictions, self.key, self.channel, self.sign))

    def differentiable(self, outputs: dict[str, Tensor], predictions: Predictions) -> Tensor:
        """Returns the mean logits of the class in the region, (B,)."""
        return self._inside(self.sign * predictions[self.key][:, self.channel].float())

    def outline(self, sides: Sequence[int]) -> Tensor | None:
        """Returns the region without the padding."""
        return self.region[corner(sides)]

    def _inside(self, values: Tensor) -> Tensor:
        """The means (B,) of values (B, *S) in the region."""
        region = self.region.to(values.device)
        return values[:, region].mean(1)


def region_targets(
    key: str,
    predictions: Predictions,
    info: Mapping[str, Any],
    sides: Sequence[int],
    threshold: Decision,
) -> list[Target]:
    """Returns the classes predicted in one image by descending area, the background last.

    Args:
        key: Of `Predictions`, with (1, K, *S) logits.
        predictions: Of one image.
        info: The data's description of the head's targets.
        sides: S without the padding.
        threshold: See `densekit.inference.restore.restore_mask`.
    """
    logits = predictions[key][0]
    mask = restore_mask(logits[corner(sides)], tuple(sides), key != "logits", threshold)
    is_binary = key == "logits" and len(logits) == 1
    has_background = is_binary or (key == "logits" and bool(info.get("background")))
    found: list[tuple[bool, int, Target]] = []
    for value in range(2 if is_binary else len(logits)):
        predicted = mask == value if key == "logits" else mask[value] == 1
        if not predicted.any():
            continue
        region = torch.zeros(logits.shape[1:], dtype=torch.bool)
        region[corner(sides)] = torch.from_numpy(predicted)
        name = side_name(info, value) if is_binary else class_name(info, value)
        positive, channel = not is_binary or value == 1, 0 if is_binary else value
        target = RegionTarget(key, channel, region, name, positive=positive)
        found.append((has_background and value == 0, -int(predicted.sum()), target))
    return [target for *_, target in sorted(found, key=lambda one: one[:2])]


def _probabilities(predictions: Predictions, key: str, channel: int, sign: float) -> Tensor:
    """The probability of a channel, (B, *S)."""
    logits = predictions[key].float()
    if key != "logits" or logits.shape[1] == 1:
        return (sign * logits[:, channel]).sigmoid()
    return logits.softmax(1)[:, channel]
