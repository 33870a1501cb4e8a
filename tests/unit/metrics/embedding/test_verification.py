"""Verification: cases counted by hand, templates, what cannot be measured, wrong input."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from densekit.metrics import Verification
from densekit.metrics.embedding.roc import (
    area,
    at_false_accept_rate,
    best_threshold,
    equal_error_rate,
    fold_accuracies,
    roc,
)
from densekit.metrics.embedding.verification import known_thresholds, rate_name
from tests.unit.metrics.embedding.faces import scene

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
SAME = np.array([1, 1, 0, 1, 0, 1, 0, 0], dtype=bool)


def test_the_curve_counts_what_each_threshold_accepts():
    curve = roc(SCORES, SAME)
    assert curve.true_accepts.tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]
    assert curve.false_accepts.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert area(curve) == 13 / 16  # genuine above impostor: 4 + 4 + 3 + 2
    assert equal_error_rate(curve) == 0.25
    assert at_false_accept_rate(curve, 0.25) == (0.75, 0.55)
    assert at_false_accept_rate(curve, 0.5) == (1.0, pytest.approx(0.35))


def test_a_rate_below_one_impostor_is_not_measurable():
    found = at_false_accept_rate(roc(SCORES, SAME), 0.2)
    assert np.isnan(found).all()


def test_equal_scores_are_accepted_together():
    curve = roc(np.array([0.5, 0.5, 0.5, 0.1]), np.array([True, False, False, True]))
    assert curve.threshold.tolist() == [np.inf, 0.5, 0.1]
    assert area(curve) == 0.25  # a tie counts half
    assert at_false_accept_rate(curve, 0.5) == (0, math.inf)


def test_the_best_threshold_lies_between_two_scores():
    scores, same = np.array([0.8, 0.6, 0.2, 0.1]), np.array([True, True, False, False])
    assert best_threshold(roc(scores, same)) == pytest.approx(0.4)
    assert best_threshold(roc(scores, np.array([False] * 4))) == math.inf
    assert best_threshold(roc(scores, np.array([True] * 4))) == 0.1


def test_a_fold_is_judged_by_the_threshold_of_the_others():
    scores = np.array([0.9, 0.1, 0.8, 0.2, 0.35, 0.3])
    same = np.array([1, 0, 1, 0, 1, 0], dtype=bool)
    fold = np.array([0, 0, 1, 1, 2, 2])
    # The others agree on 0.5 for the last fold, which then misses its genuine pair; for the first
    # two they agree on (0.35 + 0.3) / 2.
    assert fold_accuracies(scores, same, fold).tolist() == [1.0, 1.0, 0.5]


def measured(results, truths, **settings):
    metric = Verification(**settings)
    metric.update(results, truths)
    return {name: float(value) for name, value in metric.compute().items()}, metric


def test_figures_and_thresholds():
    figures, metric = measured(*scene())
    assert 0.6 < figures["accuracy"] < 1
    assert figures["tar_at_1e-3"] <= figures["tar_at_1e-2"]
    assert metric.facts() == {
        "thresholds": {
            "1e-2": figures["threshold_at_1e-2"],
            "1e-3": figures["threshold_at_1e-3"],
        }
    }
    assert known_thresholds(metric.facts())[0.01] == figures["threshold_at_1e-2"]


def test_order_and_batches_change_nothing():
    results, truths = scene()
    whole, _ = measured(results, truths)
    metric = Verification()
    for image in reversed(range(len(results))):
        metric.update([results[image]], [truths[image]])
    assert {name: float(value) for name, value in metric.compute().items()} == whole


def test_templates_are_means_of_media_which_are_means_of_images():
    a, b, c, d = np.eye(4, dtype=np.float32)
    pair = np.array([[20, 1, 0]])
    truths = [
        {"image_id": 1, "template": 10, "media": 1, "pairs": pair},
        {"image_id": 2, "template": 10, "media": 1},
        {"image_id": 3, "template": 10, "media": 2},
        {"image_id": 4, "template": 20},
    ]
    wanted = (a + b) / 4 + c / 2
    results = [{"embedding": v} for v in (a, b, c, c + d)]
    metric = Verification(false_accept_rates=[0.5])
    impostor = {"image_id": 5, "template": 30, "pairs": np.array([[20, 0, 1]])}
    metric.update([*results, {"embedding": -d}], [*truths, impostor])
    figures = metric.compute()
    from densekit.metrics.embedding.embedding_metric import pooled
    from densekit.metrics.embedding.verification import similarities
    from densekit.metrics.rows import flat

    templates = pooled(metric._table(5, flat(metric.rows, metric.device).numpy()))
    score = similarities(templates, np.array([[10.0, 20.0, 1.0, 0.0]]))
    cosine = wanted @ (c + d) / np.linalg.norm(wanted) / np.linalg.norm(c + d)
    np.testing.assert_allclose(score, [cosine], rtol=1e-6)
    assert float(figures["auc"]) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [("none", "no images"), ("pairs", "no comparison was listed"), ("same", "0 of two")],
)
def test_nothing_to_measure_is_nan_with_its_reason(change, reason, caplog):
    results, truths = scene(people=2, images=3)
    if change == "none":
        results, truths = [], []
    for truth in truths:
        truth["pairs"] = truth["pairs"][truth["pairs"][:, 1] == (2 if change == "pairs" else 1)]
    with caplog.at_level(logging.WARNING):
        figures, metric = measured(results, truths)
    assert np.isnan(list(figures.values())).all()
    assert reason in caplog.text
    assert metric.facts() == {"thresholds": {}}  # those of another evaluation must not stay


def test_wrong_input_is_refused():
    results, truths = scene(people=2, images=2)
    with pytest.raises(
        ValueError, match=r"Verification\.false_accept_rates: expected rates between 0 and 1, got 1"
    ):
        Verification(false_accept_rates=[1])
    with pytest.raises(ValueError, match=r"results: expected one per annotated image \(3\), got 4"):
        Verification().update(results, truths[:3])
    with pytest.raises(
        ValueError, match="image 0: expected a finite embedding, got NaN or an infinite value"
    ):
        Verification().update([{"embedding": np.full(3, np.nan)}], truths[:1])
    twice = Verification()
    twice.update([results[0]] * 2, [truths[0]] * 2)
    with pytest.raises(
        ValueError,
        match=r"Verification: expected every image once, got image 0",
    ):
        twice.compute()
    partly = Verification()
    partly.update(results[:2], truths[:2])
    with pytest.raises(
        ValueError, match="Verification: expected pairs of images or templates that were seen"
    ):
        partly.compute()
    mixed = Verification()
    mixed.update(results[:2], [{**truth, "template": 7} for truth in truths[:2]])
    with pytest.raises(
        ValueError, match="template 7: expected images of one identity, got several"
    ):
        mixed.compute()
    odd = Verification()
    odd.update([results[0], {"embedding": np.ones(3)}], truths[:2])
    with pytest.raises(
        ValueError, match="Verification: expected embeddings of one size, got several"
    ):
        odd.compute()


@pytest.mark.parametrize("rate", [0.1, 1e-2, 1e-6, 2.5e-4])
def test_rates_and_their_names(rate):
    assert float(rate_name(rate)) == rate
    assert rate_name(0.01) == "1e-2"
