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
from densekit.types import IGNORE_INDEX


class Pixels(Protocol):
    """The probabilities of an image's pixels, as results of mask heads offer them."""

    def view(self, mask: NDArray[Any]) -> NDArray[Any]:
        """A mask of the image as `parts` counts its rows; writing goes through."""

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields rows of the first axis, and their probabilities (K, n, *S[1:])."""


def bins_of(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """The bin 0..count - 1 of each value in 0..1."""
    edges = np.linspace(0, 1, count + 1)[1:-1].astype(values.dtype)
    found: NDArray[np.intp] = np.digitize(values, edges, right=True)
    return found


def top_label_counts(pixels: Pixels, truth: NDArray[np.uint8], count: int) -> Values:
    """Of exclusive classes, by the probability of the most probable one.

    Args:
        pixels: Of the image.
        truth: (*S), 255 where nothing is counted.
        count: M.

    Returns:
        (3, M): pixels, how many of them are right, sum of their confidence.
    """
    counts = np.zeros((3, count))
    seen = pixels.view(truth)
    for rows, probabilities in pixels.parts():
        best = probabilities.max(0)
        confidence, predicted = best.values.cpu().numpy(), best.indices.cpu().numpy()
        target = seen[rows]
        there = target != IGNORE_INDEX
        sure, right = confidence[there], (predicted == target)[there]
        place = bins_of(sure, count)
        for row, weights in enumerate((None, right, sure)):
            counts[row] += np.bincount(place, weights, count)
    return counts


def class_counts(pixels: Pixels, truth: NDArray[np.uint8], count: int) -> Values:
    """Of independent classes, by the probability of each.

    Args:
        pixels: Of the image.
        truth: (*S) of one class or (K, *S), 0 and 1, 255 where nothing is counted.
        count: Of bins.

    Returns:
        (K, 3, count): pixels, how many of them are of the class, sum of their probability.
    """
    seen = pixels.view(truth)
    counts: Values | None = None
    for rows, probabilities in pixels.parts():
        values = probabilities.cpu().numpy()  # (K, n, ...)
        planes = seen[:, rows] if seen.ndim == values.ndim else seen[None, rows]
        if counts is None:
            counts = np.zeros((len(values), 3, count))
        for label, (probability, target) in enumerate(zip(values, planes, strict=True)):
            there = target != IGNORE_INDEX
            likely, true = probability[there], (target == 1)[there]
            place = bins_of(likely, count)
            for row, weights in enumerate((None, true, likely)):
                counts[label, row] += np.bincount(place, weights, count)
    assert counts is not None, "an image has rows"
    return counts
