"""Metrics of categories on answers that are known; the references stand in tests/parity."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from densekit.metrics import Accuracy, CalibrationError, MultilabelMap

NAMES = ["a", "b", "c", "d", "e", "f"]


def measured(metric: Any, probabilities: list[Any], categories: list[Any]) -> dict[str, float]:
    results = [{"probabilities": np.asarray(row)} for row in probabilities]
    truth: list[Any] = [
        {"image_id": i, "category": np.asarray(value)} for i, value in enumerate(categories)
    ]
    metric.update(results, truth)
    return {name: float(value) for name, value in metric.compute().items()}


def test_accuracy_of_a_small_case() -> None:
    rows = [[0.6, 0.1, 0.1, 0.1, 0.05, 0.05]] * 3 + [[0.3, 0.4, 0.1, 0.1, 0.06, 0.04]]
    figures = measured(Accuracy(NAMES), rows, [0, 1, 5, 1])
    assert figures["accuracy"] == 0.5
    assert figures["top5"] == 0.75  # f is the last of equals
    assert figures["accuracy/a"] == 1
    assert figures["accuracy/b"] == 0.5
    assert figures["accuracy/f"] == 0
    assert np.isnan(figures["accuracy/c"])
    assert figures["mean_accuracy"] == 0.5
    assert figures["mean_accuracy_left_out"] == 3


def test_confusion_and_cases() -> None:
    metric = Accuracy(NAMES[:3])
    with pytest.raises(RuntimeError, match="call compute first"):
        metric.confusion()
    measured(metric, [[0.2, 0.5, 0.3], [0.2, 0.1, 0.7]], [0, 2])
    assert metric.confusion().tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
    first, second = metric.cases()
    assert first == {
        "image_id": 0,
        "category": "a",
        "predicted": "b",
        "right": 0.0,
        "confidence": 0.5,
        "place": 3,
    }
    assert (second["predicted"], second["place"]) == ("c", 1)


def test_few_classes_have_no_top_five() -> None:
    assert "top5" not in measured(Accuracy(NAMES[:5]), [[1, 0, 0, 0, 0]], [0])


def test_calibration_of_a_small_case() -> None:
    sure = [[0.9, 0.1]] * 4
    assert measured(CalibrationError(), sure, [0, 0, 0, 1])["ECE"] == pytest.approx(0.15)
    mixed = [[0.9, 0.1]] * 2 + [[0.55, 0.45]] * 2
    found = measured(CalibrationError(), mixed, [0, 0, 1, 1])["ECE"]
    assert found == pytest.approx((0.1 + 0.55) / 2)


def test_an_edge_belongs_to_the_bin_below() -> None:
    # 0.5 and 0.7 would otherwise share the upper of two bins and cancel out.
    found = measured(CalibrationError(num_bins=2), [[0.5, 0.5], [0.7, 0.3]], [0, 1])["ECE"]
    assert found == pytest.approx((0.5 + 0.7) / 2)


def test_labels_that_no_image_has_are_left_out_and_counted() -> None:
    figures = measured(
        MultilabelMap(NAMES[:3]),
        [[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.7, 0.1, 0.2]],
        [[1, 0, 0], [0, 1, 0], [1, 0, 0]],
    )
    assert figures["AP/a"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["AP/b"] == 1
    assert np.isnan(figures["AP/c"])
    assert figures["mAP"] == pytest.approx((5 / 6 + 1) / 2)
    assert figures["mAP_left_out"] == 1


@pytest.mark.parametrize("metric", [Accuracy(["a", "b"]), CalibrationError(), MultilabelMap(["a"])])
def test_without_images_there_is_no_value(metric: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figures = measured(metric, [], [])
    assert "is nan: no images" in caplog.text
    for name, value in figures.items():
        assert value in (1, 2) if name.endswith("left_out") else np.isnan(value), name


@pytest.mark.parametrize(
    ("metric", "row", "category", "message"),
    [
        (
            Accuracy(["a", "b"]),
            [0.5, 0.5],
            2,
            "image 0: annotation: expected a category of 0 to 1, got 2",
        ),
        (
            Accuracy(["a", "b"]),
            [0.5, 0.5],
            [0, 1],
            r"image 0: annotation: expected a category of 0 to 1, got \[0, 1\]",
        ),
        (
            Accuracy(["a", "b"]),
            [0.2, 0.3, 0.5],
            0,
            r"image 0: prediction: expected 2 probabilities, got shape \(3,\)",
        ),
        (
            Accuracy(["a", "b"]),
            [0.2, float("nan")],
            0,
            "image 0: prediction: expected finite probabilities, got NaN or infinity",
        ),
        (
            MultilabelMap(["a", "b"]),
            [0.2, 0.3],
            1,
            "image 0: annotation: expected 0 or 1 for each of 2 labels, got 1",
        ),
        (
            MultilabelMap(["a", "b"]),
            [0.2, 0.3],
            [0.5, 1],
            r"image 0: annotation: expected 0 or 1 for each of 2 labels, got \[0\.5, 1\.0\]",
        ),
    ],
)
def test_bad_input_names_the_image(metric: Any, row: Any, category: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(metric, [row], [category])


def test_missing_entries_are_named() -> None:
    metric, truth = Accuracy(["a", "b"]), {"image_id": 7, "size": (1, 1)}
    with pytest.raises(ValueError, match="image 7: prediction: expected probabilities, got boxes"):
        metric.update([{"boxes": []}], [truth])  # type: ignore[list-item]
    with pytest.raises(
        ValueError, match="image 7: annotation: expected a category, got image_id, size"
    ):
        metric.update([{"probabilities": [1, 0]}], [truth])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"results: expected one per annotated image \(0\), got 1"):
        metric.update([{"probabilities": [1, 0]}], [])


def test_confident_errors_by_hand() -> None:
    # Labelled a: 0.9, 0.9, 0.3; labelled b: 0.8, 0.2. Usual: 0.7 and 0.5.
    rows = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.8, 0.2], [0.6, 0.4]]
    metric = Accuracy(["a", "b"])
    measured(metric, rows, [0, 0, 0, 1, 1, 1])  # the last is wrong but unsure
    first, second = metric.suspects()
    assert (first.image_id, second.image_id) == (4, 2)
    assert first.reason == "labelled 'b', predicted 'a' with 0.80"
    assert first.confidence == pytest.approx(0.8)


def test_what_accuracy_explains() -> None:
    metric = Accuracy(NAMES[:3])
    measured(metric, [[0.2, 0.5, 0.3], [0.2, 0.1, 0.7], [0.9, 0.1, 0]], [0, 2, 0])
    matrix, classes, curves, coverage = metric.analyses()
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert classes.rows[0] == ("a", 2, 1.0, 0.5, pytest.approx(2 / 3), "b (1)")
    assert classes.rows[1] == ("b", 0, 0.0, None, 0.0, "")
    assert list(curves.lines) == ["a", "c"]
    assert coverage.lines["all classes"][1].tolist() == pytest.approx([1, 1, 2 / 3])


def test_labels_that_are_missing_or_too_many_are_suspects() -> None:
    metric = MultilabelMap(["x"])
    measured(metric, [[0.9], [0.95], [0.1], [0.97], [0.02]], [[1], [1], [0], [0], [1]])
    first, second = metric.suspects()
    assert (first.image_id, first.reason) == (4, "labelled 'x', predicted with 0.02")
    assert (second.image_id, second.reason) == (3, "not labelled 'x', predicted with 0.97")
    assert first.confidence == pytest.approx(0.98)


def test_decided_labels_count_as_the_result_says() -> None:
    metric = MultilabelMap(["x", "y"])
    results = [{"probabilities": np.array([0.3, 0.6]), "labels": np.array([0])}]
    metric.update(results, [{"image_id": 1, "category": np.array([1, 0])}])
    assert float(metric.compute()["F1_micro"]) == 1
    assert [type(one).__name__ for one in metric.analyses()] == ["Table", *["Curves"] * 3]


def test_reliability_of_categories() -> None:
    metric = CalibrationError()
    measured(metric, [[0.9, 0.1]] * 4, [0, 0, 0, 1])
    (diagram,) = metric.analyses()
    x, y = diagram.lines["all classes"]
    assert (x.tolist(), y.tolist()) == ([pytest.approx(0.9)], [0.75])
    assert diagram.diagonal
