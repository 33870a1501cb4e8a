"""Average precision of many draws of the images at once, from matches made once.

A draw gives every image a weight, the number of times that it was drawn; a detection counts as
often as its image. The result is that of an evaluation in which the images are listed so often.

Shape letters: R draws, N images, D detections, T IoU thresholds, P true positives, U detections
that are one at any threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from densekit.metrics.means import Values
from densekit.metrics.protocols import Draws

BLOCK = 128
"""Draws that are computed at once, so that the numbers of a class stay in the cache."""

Reached = Callable[[Values], Values]
"""Share of the recall axis that lies at or below each recall."""


@dataclass(frozen=True)
class Ranked:
    """The detections of one class, by falling score.

    Attributes:
        image: (D,) position of each one's image.
        hits: (T, D) whether it found an object.
        counts: (T, D) whether it counts at all.
        objects: (M,) position of the image of every object that is to be found.
    """

    image: NDArray[np.int64]
    hits: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    objects: NDArray[np.int64]


def average_precision(ranked: Ranked, draws: Draws, reached: Reached) -> Values:
    """(T, R) average precision of a class, NaN in draws without an object of it.

    The precision at a recall is the best at that recall or beyond. Only true positives are looked
    at: between two of them it does not rise.

    Args:
        ranked: The class.
        draws: (R, N) how often each image was drawn.
        reached: Made by `recall_points`, or `area_under`.
    """
    union = np.flatnonzero(ranked.hits.any(axis=0))
    always: NDArray[np.bool_] = np.all(ranked.counts, axis=0)
    # Row u: how many detections of each image lie after hit u - 1, up to and including hit u.
    segment = np.searchsorted(union, np.arange(len(ranked.image)))
    used = always & (segment < len(union))
    shape = (len(union), draws.shape[1])
    ones = np.ones(int(used.sum()))
    between = csr_array((ones, (segment[used], ranked.image[used])), shape=shape)
    blocks = [
        _block(ranked, union, between, always, block.T.astype(np.float64), reached)
        for block in np.split(draws, range(BLOCK, len(draws), BLOCK))
    ]
    return np.concatenate(blocks, axis=1)


def recall_points(number: int) -> Reached:
    """The protocol that takes the mean over evenly spaced recalls, from 0 to 1."""
    step = 1 / (number - 1)

    def share(recall: Values) -> Values:
        nearest = np.rint(recall / step)
        # Compared as numpy.linspace rounds the points: whether one is reached depends on the bit.
        met: Values = (nearest + (nearest * step <= recall)) / number
        return met

    return share


def area_under(recall: Values) -> Values:
    """The protocol that takes the whole area under the curve."""
    return recall


def _block(
    ranked: Ranked,
    union: NDArray[np.int64],
    between: csr_array,
    always: NDArray[np.bool_],
    weights: Values,
    reached: Reached,
) -> Values:
    """(T, R) of some draws, given as (N, R) weights."""
    total = weights[ranked.objects].sum(axis=0)
    steady = np.cumsum(between @ weights, axis=0)  # (U, R) detections up to each hit
    found = np.zeros((len(ranked.hits), weights.shape[1]))
    for t, (hit, counts) in enumerate(zip(ranked.hits, ranked.counts, strict=True)):
        hits, others = np.flatnonzero(hit), np.flatnonzero(counts & ~always)
        if len(hits):
            seen = steady[np.searchsorted(union, hits)]
            if len(others):
                seen += _up_to(hits, others, weights[ranked.image[others]])
            found[t] = _area(weights[ranked.image[hits]], seen, total, reached)
    found[:, total == 0] = np.nan
    return found


def _up_to(hits: NDArray[np.int64], others: NDArray[np.int64], weights: Values) -> Values:
    """(P, R) weight of the detections `others` up to each hit."""
    nothing = np.zeros((1, weights.shape[1]))
    summed = np.concatenate((nothing, np.cumsum(weights, axis=0)))
    return summed[np.searchsorted(others, hits, side="right")]


def _area(drawn: Values, seen: Values, total: Values, reached: Reached) -> Values:
    """(R,) of the weights of true positives, and of all detections up to each, (P, R) both."""
    true = np.cumsum(drawn, axis=0)
    precision = true / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    share = np.where(true > 0, reached(true / np.maximum(total, 1)), 0.0)
    area: Values = (envelope * np.diff(share, axis=0, prepend=0.0)).sum(axis=0)
    return area
