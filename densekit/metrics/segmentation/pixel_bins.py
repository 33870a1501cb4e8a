"""Counts of pixels by how probable their class is: for calibration, thresholds and curves.

Bins are equally wide and closed on their upper side, so that a threshold at the lower side of one
keeps the pixels whose probability exceeds it.

Shape letters: K classes, S the sides of an image, M bins of calibration, F bins of thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from densekit.metrics.means import Values
from densekit.metrics.reliability import binned
from densekit.types import IGNORE_INDEX


class Pixels(Protocol):
    """The probabilities of an image's pixels, as results of mask heads offer them."""

    def view(self, mask: NDArray[Any]) -> NDArray[Any]:
        """A mask of the image as `parts` counts its rows; writing goes through."""

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields rows of the first axis, and their probabilities (K, n, *S[1:])."""


def top_label_counts(
    confidence: NDArray[Any], right: NDArray[np.bool_], there: NDArray[np.bool_], count: int
) -> Values:
    """Of exclusive classes, by the probability of the most probable one.

    Args:
        confidence: (...) that probability.
        right: (...) whether that class is right.
        there: (...) whether the pixel counts.
        count: M.

    Returns:
        (3, M): pixels, how many of them are right, sum of their confidence.
    """
    return binned(confidence[there], right[there], count)


def class_counts(probabilities: NDArray[Any], truth: NDArray[np.uint8], count: int) -> Values:
    """Of independent classes, by the probability of each.

    Args:
        probabilities: (K, ...).
        truth: (K, ...) of 0 and 1, 255 where nothing is counted.
        count: Of bins.

    Returns:
        (K, 3, count): pixels, how many of them are of the class, sum of their probability.
    """
    found = []
    for likely, target in zip(probabilities, truth, strict=True):
        there = target != IGNORE_INDEX
        found.append(binned(likely[there], (target == 1)[there], count))
    return np.stack(found)
