"""Receiver operating characteristics of many draws of subjects at once.

Shape letters: P comparisons, C distinct scores, R draws, N images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values, ratio
from densekit.metrics.protocols import Draws

HELD = 1 << 22
"""Weights of comparisons that are held at once."""


class PairWeights:
    """How often each comparison counts in a draw, by falling score.

    Args:
        scores: (P,) similarities.
        same: (P,) whether the comparison is of one identity.
        left: (P,) column of the draws of the first of each.
        right: (P,) of the second.
        group: (N,) number of the group with which each image is drawn.
    """

    def __init__(
        self,
        scores: Values,
        same: NDArray[np.bool_],
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        group: NDArray[np.int64],
    ) -> None:
        order = np.argsort(-scores, kind="stable")
        self.same, self.left, self.right = same[order], left[order], right[order]
        # The comparisons within a subject count as often as the subject does.
        self.within = self.same & (group[self.left] == group[self.right])
        falling = scores[order]
        self.last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)[: len(falling)]

    def accepts(self, draws: Draws) -> tuple[Values, Values]:
        """(C + 1, R) true and false accepts by falling threshold, as of `roc.Roc`."""
        first, second = draws.T[self.left].astype(np.float64), draws.T[self.right]
        weights = np.where(self.within[:, None], first, first * second)
        true = np.cumsum(weights * self.same[:, None], axis=0)[self.last]
        everything = np.cumsum(weights, axis=0)[self.last]
        nothing = np.zeros((1, len(draws)))
        return np.concatenate((nothing, true)), np.concatenate((nothing, everything - true))


def weighted_rates(
    pairs: PairWeights, draws: Draws, false_accept_rates: Sequence[float]
) -> tuple[Values, Values, Values]:
    """Equal error rate (R,), area (R,) and true accept rates (F, R) at F false accept rates.

    As in `densekit.metrics.embedding.roc`; NaN where a draw cannot measure them.
    """
    true, false = pairs.accepts(draws)
    genuine, impostors = true[-1], false[-1]
    tar, far = ratio(true, genuine), ratio(false, impostors)
    if len(tar) < 2:  # no comparison at all
        nothing = np.full((2 + len(false_accept_rates), len(draws)), np.nan)
        return nothing[0], nothing[1], nothing[2:]
    area = np.sum(np.diff(far, axis=0) * (tar[1:] + tar[:-1]) / 2, axis=0)
    rates = [_at(rate, tar, false, impostors) for rate in false_accept_rates]
    return _equal_error(tar, far), area, np.stack(rates) if rates else np.zeros((0, len(draws)))


def _at(rate: float, tar: Values, false: Values, impostors: Values) -> Values:
    allowed = rate * impostors + 1e-9
    place = (false <= allowed).sum(axis=0) - 1
    return np.where(allowed >= 1, tar[place, np.arange(tar.shape[1])], np.nan)


def _equal_error(tar: Values, far: Values) -> Values:
    draw = np.arange(tar.shape[1])
    gap = far - (1 - tar)
    after = np.maximum(np.argmax(gap >= 0, axis=0), 1)
    low, high = gap[after - 1, draw], gap[after, draw]
    share = -low / (high - low)
    error: Values = far[after - 1, draw] + share * (far[after, draw] - far[after - 1, draw])
    return error


def blocks(pairs: PairWeights, draws: Draws) -> list[Draws]:
    """The draws in parts of which the weights fit into memory."""
    return np.split(draws, range(step := max(1, HELD // max(1, len(pairs.left))), len(draws), step))
