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
from densekit.types import Predictions


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
        return self.region[tuple(slice(side) for side in sides)]

    def _inside(self, values: Tensor) -> Tensor:
        """The means (B,) of values (B, *S) in the region."""
        region = self.region.to(values.device)
        return values[:, region].mean(1)


def region_targets(
    key: str, predictions: Predictions, info: Mapping[str, Any], sides: Sequence[int]
) -> list[Target]:
    """Returns the classes predicted in one image by descending area, the background last.

    Args:
        key: Of `Predictions`, with (1, K, *S) logits.
        predictions: Of one image.
        info: The data's description of the head's targets.
        sides: S without the padding.
    """
    logits = predictions[key][0]
    inside = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
    inside[tuple(slice(side) for side in sides)] = True
    is_binary = key == "logits" and len(logits) == 1
    has_background = is_binary or (key == "logits" and bool(info.get("background")))
    found: list[tuple[bool, int, Target]] = []
    for value, region in enumerate(_regions(key, logits)):
        area = int((region & inside).sum())
        if area:
            channel = 0 if is_binary else value
            name = side_name(info, value) if is_binary else class_name(info, value)
            positive = not is_binary or value == 1
            target = RegionTarget(key, channel, region & inside, name, positive=positive)
            found.append((has_background and value == 0, -area, target))
    return [target for *_, target in sorted(found, key=lambda one: one[:2])]


def _regions(key: str, logits: Tensor) -> list[Tensor]:
    """Where each mask value, or channel if multi-label, is predicted: bool (*S) each."""
    if key != "logits":
        return list(logits > 0)
    if len(logits) == 1:
        return [logits[0] <= 0, logits[0] > 0]
    classes = logits.argmax(0)
    return [classes == k for k in range(len(logits))]


def _probabilities(predictions: Predictions, key: str, channel: int, sign: float) -> Tensor:
    """The probability of a channel, (B, *S)."""
    logits = predictions[key].float()
    if key != "logits" or logits.shape[1] == 1:
        return (sign * logits[:, channel]).sigmoid()
    return logits.softmax(1)[:, channel]
