"""What comparisons of faces explain, and which of them are suspicious."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from densekit.metrics import Identification, Verification
from densekit.metrics.analyses import Curves, Table
from densekit.metrics.embedding.score_calibration import same_probability
from tests.unit.metrics.embedding.faces import comparisons, scene


def computed(metric: Any, results: Any, truths: Any) -> Any:
    metric.update(results, truths)
    metric.compute()
    return metric


def test_probabilities_are_those_of_a_logistic_regression() -> None:
    scores, same, fold = comparisons(*scene())
    found = same_probability(scores, same, fold)
    for number in range(10):
        here = fold == number
        theirs = LogisticRegression(C=np.inf).fit(scores[~here, None], same[~here])
        expected = theirs.predict_proba(scores[here, None])[:, 1]
        np.testing.assert_allclose(found[here], expected, atol=0.01)


def test_probabilities_without_folds_and_without_errors() -> None:
    scores = np.concatenate([np.full(50, 0.9), np.full(50, -0.1)])  # no overlap: must not diverge
    same = scores > 0.5
    found = same_probability(scores, same, np.zeros(100, np.int64))
    assert (found[same] > 0.9).all()
    assert (found[~same] < 0.1).all()
    assert np.isfinite(found).all()
    assert np.isnan(same_probability(scores, np.ones(100, bool), np.zeros(100, int))).all()


def test_curves_and_thresholds() -> None:
    metric = computed(Verification([0.1, 0.01, 1e-6]), *scene())
    receiver, trade_off, similarities, thresholds, diagram = metric.analyses()
    figures = {name: float(value) for name, value in metric.compute().items()}
    x, y = receiver.lines["comparisons"]
    assert y[np.searchsorted(x, -1, side="right") - 1] == pytest.approx(
        figures["tar_at_1e-1"], abs=0.02
    )
    assert isinstance(trade_off, Curves)
    assert all(line[1].sum() == pytest.approx(1) for line in similarities.lines.values())
    assert isinstance(thresholds, Table)
    first, second, unmeasurable = thresholds.rows
    assert first[:2] == (0.1, figures["threshold_at_1e-1"])
    assert first[2] == pytest.approx(np.sqrt(2 - 2 * figures["threshold_at_1e-1"]))
    assert first[4] == pytest.approx(0.1, abs=0.03)
    assert second[4] == pytest.approx(0.01, abs=0.01)
    assert unmeasurable == (1e-6, None, None, None, None, None)
    (name,) = diagram.lines
    assert 0 < float(name.split()[1]) < 0.05


def test_wrong_comparisons_are_suspects() -> None:
    results, truths = scene(spread=0.2, size=64)
    wrong = truths[0]["pairs"]
    same, other = (np.flatnonzero(wrong[:, 1] == value)[0] for value in (1, 0))
    wrong[[same, other], 1] = 0, 1
    suspects = computed(Verification(), results, truths).suspects()
    found = {s.reason.split(",")[0] for s in suspects if s.image_id == 0}
    assert f"listed as another identity as image {wrong[same, 0]}" in found
    assert f"listed as the same identity as image {wrong[other, 0]}" in found
    assert all(a.confidence >= b.confidence for a, b in zip(suspects, suspects[1:], strict=False))


def test_nothing_is_explained_without_comparisons() -> None:
    results, truths = scene()
    for truth in truths:
        truth["pairs"] = truth["pairs"][:0]
    metric = computed(Verification(), results, truths)
    assert metric.analyses() == metric.suspects() == []


def test_ranks_of_an_identification() -> None:
    metric = computed(Identification([1, 5]), *scene())
    (curve,) = metric.analyses()
    ranks, found = curve.lines["probes"]
    figures = {name: float(value) for name, value in metric.compute().items()}
    assert (found[0], found[4]) == pytest.approx((figures["rank_1"], figures["rank_5"]))
    assert ranks[-1] == 50


def test_open_set_identification() -> None:
    """One entry per person; strangers are as similar as 0.9, 0.5 and so on to the gallery."""
    people = np.eye(12)
    results, truths = [], []
    for image, (person, mixed) in enumerate([(0, 0.0), (0, 0.05), (1, 0.0), (1, 0.8)]):
        results.append({"embedding": people[person] + mixed * people[11]})
        truths.append({"image_id": image, "identity": person, "gallery": not image % 2})
    for stranger in range(10):
        share = np.sqrt(1 - (0.9 - stranger / 20) ** 2)
        embedding = (0.9 - stranger / 20) * people[0] + share * people[10]
        results.append({"embedding": embedding})
        truths.append({"image_id": 10 + stranger, "identity": 50 + stranger, "gallery": False})
    _, table = computed(Identification([1]), results, truths).analyses()
    tenth, hundredth, _ = table.rows
    assert tenth == (0.1, pytest.approx(0.85), 0.5)  # the second probe has 0.78
    assert hundredth == (0.01, None, None)
