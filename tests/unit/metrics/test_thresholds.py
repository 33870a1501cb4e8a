"""Thresholds that are measured, against a search over every cut."""

import numpy as np
import pytest

from densekit.metrics.thresholds import (
    MIN_OBJECTS,
    Scored,
    best_threshold,
    check_precision,
    measured_thresholds,
    operating_points,
)


def random_scored(rng: np.random.Generator, objects: int = 40) -> Scored:
    scores = rng.random(60).round(1)  # with many ties
    hits = (rng.random(60) < scores) & (np.cumsum(np.ones(60)) <= objects)
    return Scored(scores, hits, objects)


def kept(scored: Scored, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of what lies at or above a threshold."""
    above = scored.scores >= threshold
    right, number = scored.hits[above].sum(), above.sum()
    return right / number, right / scored.objects, 2 * right / (number + scored.objects)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_is_better(seed: int):
    scored = random_scored(np.random.default_rng(seed))
    points = operating_points(scored)
    cuts = [kept(scored, score) for score in points.scores]
    assert np.allclose(np.stack((points.precision, points.recall, points.f1), 1), cuts)
    threshold = best_threshold(points)
    assert kept(scored, threshold)[2] == max(f1 for _, _, f1 in cuts)
    assert threshold not in scored.scores
    asked = best_threshold(points, min_precision=0.7)
    recalls = [recall for precision, recall, _ in cuts if precision >= 0.7]
    assert (kept(scored, asked)[1] if asked else None) == (max(recalls) if recalls else None)


def test_bins_stand_for_their_predictions():
    rng = np.random.default_rng(0)
    one_by_one = random_scored(rng)
    scores, where = np.unique(one_by_one.scores, return_inverse=True)
    binned = Scored(
        scores, np.bincount(where, one_by_one.hits), one_by_one.objects, np.bincount(where)
    )
    ours, theirs = operating_points(binned), operating_points(one_by_one)
    assert np.allclose(ours.precision, theirs.precision)
    assert np.allclose(ours.recall, theirs.recall)


def test_a_rare_class_takes_the_overall_threshold():
    sure = Scored(np.array([0.9] * 30 + [0.4]), np.array([1] * 30 + [0]), 30)
    rare = Scored(np.array([0.3]), np.array([1]), MIN_OBJECTS - 1)
    wrong = Scored(np.array([0.2]), np.array([0]), MIN_OBJECTS)
    found = measured_thresholds({"cat": sure, "dog": rare, "cow": wrong}, "IoU 0.5")
    thresholds = found["best_thresholds"]
    assert thresholds["by"] == "F1 at IoU 0.5"
    assert thresholds["classes"] == {"cat": pytest.approx(0.65)}
    assert thresholds["overall"] == pytest.approx(0.25)  # the one of the rare class is right
    asked = measured_thresholds({"cat": sure}, "IoU 0.5", min_precision=0.9)
    assert asked["best_thresholds"]["by"] == "precision 0.9 at IoU 0.5"


def test_nothing_measured_is_no_fact():
    nothing = Scored(np.zeros(0), np.zeros(0, dtype=bool), 0)
    assert measured_thresholds({}, "IoU 0.5") == {}
    assert measured_thresholds({"cat": nothing}, "IoU 0.5") == {}
    few = Scored(np.ones(3), np.ones(3, dtype=bool), 3)
    assert measured_thresholds({"cat": few}, "IoU 0.5") == {}


@pytest.mark.parametrize("value", [0, -0.1, 1.1])
def test_a_precision_beyond_its_range_is_refused(value: float):
    with pytest.raises(ValueError, match=r"coco.min_precision: expected a number in \(0, 1\]"):
        check_precision(value, "coco.min_precision")
    check_precision(None, "coco.min_precision")
