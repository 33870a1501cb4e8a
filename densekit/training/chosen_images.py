"""Chooses the images of an evaluation that are worth a look: the worst, the median, the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


class CaseValues(NamedTuple):
    """What a metric says of each image.

    Attributes:
        name: Of the value, such as "F1".
        higher_is_better: Whether the highest value is the best.
        values: Image id to value; NaN where it has none.
        confidence: Image id to the confidence of its prediction, which tells equal values apart:
            the more confident, the worse, or the better if it is the best value of all.
    """

    name: str
    higher_is_better: bool
    values: Mapping[int, float]
    confidence: Mapping[int, float] = MappingProxyType({})


class Chosen(NamedTuple):
    """An image that was chosen.

    Attributes:
        image_id: Its id.
        title: Why, for a caption; empty if it is one of several at equal distances.
    """

    image_id: int
    title: str


def by_value(cases: CaseValues, count: int) -> list[Chosen]:
    """Chooses a third each of the worst, the median and the best images, the worst first.

    Images without a value are left out. Equal ones are in the order of their ids.

    Args:
        cases: The values.
        count: Number of images, at most.
    """
    sign = 1 if cases.higher_is_better else -1
    known = [image for image, value in cases.values.items() if not math.isnan(value)]
    best_value = max((sign * cases.values[image] for image in known), default=0.0)

    def key(image: int) -> tuple[float, float, int]:
        value, confidence = sign * cases.values[image], cases.confidence.get(image, 0.0)
        return value, confidence if value == best_value else -confidence, image

    known.sort(key=key)
    worst, median, best = (count + 2) // 3, count // 3, (count + 1) // 3
    if len(known) <= count:
        worst, best = -(-len(known) // 3), len(known) // 3
        median = len(known) - worst - best
    middle = max(worst, min((len(known) - median) // 2, len(known) - best - median))
    groups = {
        "worst": known[:worst],
        "median": known[middle : middle + median],
        "best": known[len(known) - best :],
    }
    return [
        Chosen(image, f"{label}: {cases.name} {cases.values[image]:.3g}")
        for label, images in groups.items()
        for image in images
    ]


def evenly(image_ids: Sequence[int], count: int) -> list[Chosen]:
    """Chooses images at equal distances, the first and the last among them."""
    places = np.linspace(0, len(image_ids) - 1, min(count, len(image_ids))).round().astype(int)
    return [Chosen(image_ids[place], "") for place in places]
