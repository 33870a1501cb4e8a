"""Accuracy, calibration and average precision against scikit-learn and torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multiclass_calibration_error,
    multilabel_average_precision,
)

from densekit.metrics import Accuracy, CalibrationError, MultilabelMap

pytestmark = pytest.mark.parity

CLASSES, IMAGES = 8, 300
NAMES = [f"class {n}" for n in range(CLASSES)]


def measured(metric: Any, probabilities: Any, categories: Any) -> dict[str, float]:
    results = [{"probabilities": row} for row in probabilities]
    truth: Any = [{"image_id": i, "category": c} for i, c in enumerate(categories)]
    for start in range(0, IMAGES, 70):
        metric.update(results[start : start + 70], truth[start : start + 70])
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.fixture
def classes() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    category = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(size=(IMAGES, CLASSES)) * 1.5
    logits[np.arange(IMAGES), category] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), category


def test_accuracy(classes: tuple[Any, Any]) -> None:
    probabilities, category = classes
    metric = Accuracy(NAMES)
    found = measured(metric, probabilities, category)
    predicted = probabilities.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(category, predicted))
    top5 = sklearn_metrics.top_k_accuracy_score(category, probabilities, k=5)
    assert found["top5"] == pytest.approx(top5)
    balanced = sklearn_metrics.balanced_accuracy_score(category, predicted)
    assert found["mean_accuracy"] == pytest.approx(balanced)
    recalls = sklearn_metrics.recall_score(category, predicted, average=None)
    assert [found[f"accuracy/{name}"] for name in NAMES] == pytest.approx(list(recalls))
    expected = sklearn_metrics.confusion_matrix(category, predicted, labels=range(CLASSES))
    np.testing.assert_array_equal(metric.confusion(), expected)
    theirs = multiclass_accuracy(
        torch.tensor(probabilities), torch.tensor(category), CLASSES, average="micro", top_k=5
    )
    assert found["top5"] == pytest.approx(float(theirs))


def test_calibration(classes: tuple[Any, Any]) -> None:
    probabilities, category = classes
    found = measured(CalibrationError(), probabilities, category)["ECE"]
    theirs = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(category), CLASSES, n_bins=15, norm="l1"
    )
    assert found == pytest.approx(float(theirs), abs=1e-6)
    assert found > 0.01


def test_average_precision() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((IMAGES, CLASSES)) < 0.2).astype(np.float32)
    probabilities = (labels * 0.3 + rng.random((IMAGES, CLASSES)) * 0.7).astype(np.float32)
    probabilities = np.round(probabilities, 2)  # many ties
    found = measured(MultilabelMap(NAMES), probabilities, labels)
    expected = sklearn_metrics.average_precision_score(labels, probabilities, average=None)
    assert [found[f"AP/{name}"] for name in NAMES] == pytest.approx(list(expected))
    theirs = multilabel_average_precision(
        torch.tensor(probabilities), torch.tensor(labels).long(), CLASSES, average="macro"
    )
    assert found["mAP"] == pytest.approx(float(theirs), abs=1e-6)


def test_f1_of_classes(classes: tuple[Any, Any]) -> None:
    probabilities, category = classes
    found = measured(Accuracy(NAMES), probabilities, category)
    expected = sklearn_metrics.f1_score(category, probabilities.argmax(1), average="macro")
    assert found["F1"] == pytest.approx(expected)


def test_labels_macro_and_micro() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((IMAGES, CLASSES)) < 0.2).astype(np.float32)
    probabilities = (labels * 0.3 + rng.random((IMAGES, CLASSES)) * 0.7).astype(np.float32)
    metric = MultilabelMap(NAMES)
    found = measured(metric, probabilities, labels)
    decided = probabilities >= 0.5
    for key, average in (("F1", "macro"), ("F1_micro", "micro")):
        expected = sklearn_metrics.f1_score(labels, decided, average=average)
        assert found[key] == pytest.approx(expected)
    micro = sklearn_metrics.average_precision_score(labels, probabilities, average="micro")
    assert found["mAP_micro"] == pytest.approx(micro, abs=1e-6)
    errors = [
        float(binary_calibration_error(torch.tensor(p), torch.tensor(t).long(), n_bins=15))
        for p, t in zip(probabilities.T, labels.T, strict=True)
    ]
    assert found["ECE"] == pytest.approx(np.mean(errors), abs=1e-6)
    best = metric.facts()["best_thresholds"]
    for name, p, t in zip(NAMES, probabilities.T, labels.T, strict=True):
        precision, recall, _ = sklearn_metrics.precision_recall_curve(t, p)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        at = sklearn_metrics.f1_score(t, p >= best["classes"][name])
        assert at == pytest.approx(f1.max())
