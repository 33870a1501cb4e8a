"""Curves over the score from which predictions are kept."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics.score_curves import POINTS, over_scores, precision_recall
from densekit.metrics.thresholds import Scored


def test_bins_without_predictions_have_no_point() -> None:
    scored = {"a": Scored(np.array([0.2, 0.6, 0.9]), np.array([1, 3, 0]), 5, np.array([4, 4, 0]))}
    curves = precision_recall(scored)
    recall, precision = curves.lines["a"]
    assert recall.tolist() == pytest.approx([0.6, 0.8])
    assert precision.tolist() == pytest.approx([0.75, 0.5])
    assert curves.marked["a"] == pytest.approx((0.6, 0.75))
    lines = over_scores(scored, "probability").lines
    assert list(lines) == ["a", "precision", "recall"]
    assert all(np.isfinite(line).all() for pair in lines.values() for line in pair)


def test_classes_without_objects_have_no_line() -> None:
    scored = {
        "a": Scored(np.array([0.5]), np.array([0]), 0),
        "b": Scored(np.zeros(0), np.zeros(0), 3),
    }
    assert precision_recall(scored).lines == over_scores(scored, "score").lines == {}


def test_lines_are_thinned() -> None:
    scores = np.linspace(0, 1, 5000)
    scored = {"a": Scored(scores, scores > 0.5, 2500), "b": Scored(scores, scores > 0.9, 500)}
    x, y = over_scores(scored, "score").lines["a"]
    assert len(x) == len(y) == POINTS
    assert (x[0], x[-1]) == (1, 0)
