"""What a set of explanations says together: faithfulness with intervals, and the weights check.

Shape letters: N maps, R draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from densekit.explain import Explanation
from densekit.explain.randomised import MOST_ALIKE
from densekit.metrics.bootstrap import Interval, draws, interval

BETTER = {"deletion": -1, "insertion": 1}
"""Measure to the sign of a better value."""
PASSED = "passed: the maps depend on the weights"
FAILED = "FAILED: the maps show the image, not the model: they hardly change with random weights"


@dataclass(frozen=True)
class Gain:
    """How much better maps are than random ones, by one measure.

    Attributes:
        measure: "deletion" or "insertion".
        maps: Mean of the maps.
        random: Mean of the random maps.
        gain: Mean difference, positive if the maps are better.
        ends: Its 95 % interval by images; NaN for one image.
    """

    measure: str
    maps: float
    random: float
    gain: float
    ends: Interval

    @property
    def words(self) -> str:
        """The conclusion in words."""
        if math.isnan(self.ends.low):
            side = "better" if self.gain > 0 else "not better"
            return f"{side} than the random map in one image, which has no interval"
        if self.ends.low > 0:
            return "better than random maps"
        return "worse than random maps" if self.ends.high < 0 else "not distinguishable from random"


def gains(images: Sequence[str], found: Sequence[Explanation]) -> list[Gain]:
    """Returns the gain by each measure; none if nothing was measured.

    Args:
        images: Of each map; maps of one image are drawn together.
        found: The N maps.
    """
    if not found or found[0].measured is None:
        return []
    weights = draws(images).astype(np.float64)  # (R, N)
    several = len(set(images)) > 1
    out = []
    for measure, sign in BETTER.items():
        maps = np.array([getattr(one.measured, measure) for one in found])  # (N,)
        random = np.array([getattr(one.random, measure) for one in found])
        gain = sign * (maps - random)
        drawn = weights @ gain / weights.sum(1)
        ends = interval(drawn) if several else Interval(math.nan, math.nan)
        means = float(maps.mean()), float(random.mean()), float(gain.mean())
        out.append(Gain(measure, *means, ends))
    return out


def weights_verdict(found: Sequence[Explanation]) -> tuple[float, bool, str] | None:
    """Returns the mean absolute rank correlation, whether it passes, and words; None if unchecked.

    A constant map counts as 1: it depends on nothing.
    """
    rows = [one.correlation for one in found if one.correlation is not None]
    if not rows:
        return None
    mean = fmean(1.0 if math.isnan(value) else abs(value) for value in rows)
    passed = mean <= MOST_ALIKE
    words = PASSED if passed else FAILED
    return mean, passed, f"{words} (mean rank correlation {mean:.2f}, at most {MOST_ALIKE:g})"


def as_json(gain: Gain) -> dict[str, Any]:
    """Returns a gain as JSON values."""
    return {
        "map": gain.maps,
        "random": gain.random,
        "gain": gain.gain,
        "low": gain.ends.low,
        "high": gain.ends.high,
        "words": gain.words,
    }
