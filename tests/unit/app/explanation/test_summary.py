"""What a set of maps says: gains with intervals, and the verdict on the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from densekit.app.explanation.summary import FAILED, PASSED, gains, weights_verdict
from densekit.explain import Explanation
from densekit.explain.faithfulness import Faithfulness


def found(
    deletion: float = 0.2, insertion: float = 0.8, correlation: float | None = 0.1
) -> Explanation:
    measured, random = Faithfulness(deletion, insertion), Faithfulness(0.5, 0.5)
    saliency = np.zeros((2, 2), np.float32)
    return Explanation("a", "rise", 1.0, saliency, None, measured, random, correlation)


def test_both_gains_are_positive_where_the_map_is_better() -> None:
    rows = [found(0.2, 0.8), found(0.4, 0.6)]
    deletion, insertion = gains(["a", "b"], rows)
    assert (deletion.measure, insertion.measure) == ("deletion", "insertion")
    assert deletion.gain == pytest.approx(0.2)
    assert insertion.gain == pytest.approx(0.2)
    assert deletion.ends.low == pytest.approx(0.1)
    assert deletion.ends.high == pytest.approx(0.3)
    assert deletion.words == "better than random maps"


def test_maps_of_one_image_are_drawn_together() -> None:
    """Two images of ten equal maps each vary as two maps do."""
    rows = [found(0.2)] * 10 + [found(0.4)] * 10
    (many, _), (two, _) = gains(["a"] * 10 + ["b"] * 10, rows), gains(["a", "b"], rows[9:11])
    assert many.ends == pytest.approx(two.ends)


@pytest.mark.parametrize(
    ("deletions", "words"),
    [
        ([0.2, 0.3, 0.2], "better than random maps"),
        ([0.8, 0.7, 0.6], "worse than random maps"),
        ([0.2, 0.8, 0.5], "not distinguishable from random"),
        ([0.2], "better than the random map in one image, which has no interval"),
        ([0.6], "not better than the random map in one image, which has no interval"),
    ],
)
def test_words(deletions: Sequence[float], words: str) -> None:
    names = [str(place) for place in range(len(deletions))]
    assert gains(names, [found(one) for one in deletions])[0].words == words


def test_verdict_on_the_weights() -> None:
    mean, passed, words = weights_verdict([found(), found(correlation=-0.3)]) or (0, False, "")
    assert mean == pytest.approx(0.2)
    assert passed
    assert words.startswith(PASSED)
    _, passed, words = weights_verdict([found(correlation=-0.9)]) or (0, True, "")
    assert not passed
    assert words.startswith(FAILED)
    assert weights_verdict([found(correlation=None)]) is None


def test_a_constant_map_fails() -> None:
    mean, passed, _ = weights_verdict([found(correlation=math.nan)]) or (0, True, "")
    assert (mean, passed) == (1, False)
