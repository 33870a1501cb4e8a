"""Verification and identification against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve, top_k_accuracy_score

from densekit.metrics import Identification, Verification
from tests.unit.metrics.embedding.faces import comparisons, scene

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [12, 1], ids=["distinct", "ties"])
def test_curve_area_and_rates(seed, decimals):
    results, truths = scene(seed)
    if decimals == 1:  # coarse embeddings: many scores are equal
        results = [{"embedding": np.sign(r["embedding"]).astype(np.float32)} for r in results]
    scores, same, fold = comparisons(results, truths)
    scores = np.round(scores, 12)
    metric = Verification(false_accept_rates=[0.1, 0.01, 0.001])
    metric.update(results, truths)
    figures = {name: float(value) for name, value in metric.compute().items()}
    assert figures["auc"] == pytest.approx(roc_auc_score(same, scores), abs=1e-9)
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    for rate, name in ((0.1, "1e-1"), (0.01, "1e-2"), (0.001, "1e-3")):
        assert figures[f"tar_at_{name}"] == pytest.approx(true[false <= rate].max(), abs=1e-9)
        accepted = scores >= figures[f"threshold_at_{name}"]
        assert accepted[~same].mean() <= rate
        assert accepted[same].mean() == pytest.approx(figures[f"tar_at_{name}"])
    eer = brentq(lambda x: 1 - x - interp1d(false, true)(x), 0, 1)
    assert figures["eer"] == pytest.approx(eer, abs=1e-6)
    accuracies = []
    for number in range(10):
        rest, here = fold != number, fold == number
        candidates = np.unique(scores[rest])
        middles = np.concatenate([candidates[:1], (candidates[1:] + candidates[:-1]) / 2, [np.inf]])
        right = [((scores[rest] >= t) == same[rest]).mean() for t in middles]
        best = middles[np.isclose(right, max(right))]
        accuracies.append([((scores[here] >= t) == same[here]).mean() for t in best])
    low, high = np.mean([min(a) for a in accuracies]), np.mean([max(a) for a in accuracies])
    assert low - 1e-9 <= figures["accuracy"] <= high + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_ranks_and_mean_average_precision(seed):
    results, truths = scene(seed, spread=1.5)
    for truth in truths[:12]:
        truth["gallery"] = True  # one of each person
    for truth in truths[12:]:
        truth["gallery"] = False
    metric = Identification(ranks=(1, 3, 5))
    metric.update(results, truths)
    figures = {name: float(value) for name, value in metric.compute().items()}
    unit = np.stack([r["embedding"] for r in results]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    score = unit[12:] @ unit[:12].T
    person = np.array([t["identity"] for t in truths])
    for k in (1, 3, 5):
        wanted = top_k_accuracy_score(person[12:], score, k=k, labels=range(12))
        assert figures[f"rank_{k}"] == pytest.approx(wanted)
    precisions = [
        average_precision_score(person[:12] == p, s)
        for p, s in zip(person[12:], score, strict=True)
    ]
    assert figures["map"] == pytest.approx(np.mean(precisions))
