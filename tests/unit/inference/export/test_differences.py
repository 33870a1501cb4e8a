"""Differences between two results: what counts, what is beyond the limit, what proves nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densekit.inference.export.differences import LIMITS, Differences, Measured, of_metrics
from densekit.ops.run_lengths import encode
from densekit.types import Result

BOX = [10.0, 10, 50, 40]


def boxes(*rows: list[float], score: float = 0.9, label: int = 0) -> Result:
    return {
        "boxes": np.array(rows, np.float32).reshape(-1, 4),
        "scores": np.full(len(rows), score, np.float32),
        "labels": np.full(len(rows), label),
    }


def measured(
    expected: Result, found: Result, precision: str = "fp32", zoom: float = 1.0
) -> dict[str, Measured]:
    seen = Differences(LIMITS[precision])
    seen.update(expected, found, zoom)
    return {row.name: row for row in seen.measured("head")}


def moved(expected: Result, found: Result, **more: object) -> Measured:
    return next(iter(measured(expected, found, **more).values()))  # type: ignore[arg-type]


def test_a_box_within_the_limit_is_the_same() -> None:
    row = moved(boxes(BOX), boxes([10.5, 10, 50, 40]))
    assert row.is_within
    assert (row.difference, row.compared) == (0, 2)  # looked for from either side


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (boxes(BOX), boxes([13.0, 10, 50, 40])),  # moved
        (boxes(BOX), boxes(BOX, label=1)),  # of another class
        (boxes(BOX), boxes()),  # lost
        (boxes(), boxes(BOX)),  # invented
    ],
)
def test_a_box_that_moved_is_beyond_the_limit(expected: Result, found: Result) -> None:
    assert not moved(expected, found).is_within


def test_moves_are_pixels_of_the_network() -> None:
    assert not moved(boxes(BOX), boxes([10.5, 10, 50, 40]), zoom=4.0).is_within
    assert moved(boxes(BOX), boxes([13.0, 10, 50, 40]), zoom=0.25).is_within


def test_boxes_of_low_scores_are_not_looked_for() -> None:
    assert moved(boxes(BOX, score=0.1), boxes()).compared == 0


def test_no_boxes_on_either_side_prove_nothing() -> None:
    row = moved(boxes(), boxes())
    assert row.is_within
    assert row.compared == 0
    assert "nothing to compare" in str(row)


def test_pixels_of_another_class() -> None:
    mask = np.zeros((20, 50), np.uint8)
    other = mask.copy()
    other[0, :2] = 1
    row = measured({"mask": mask}, {"mask": other})["head/pixels of another class"]
    assert row.difference == pytest.approx(0.2)
    assert not row.is_within
    assert measured({"mask": mask}, {"mask": other}, "bf16")[row.name].is_within


def test_embeddings_and_probabilities() -> None:
    one, near, far = (np.array(v, np.float32) for v in ([1, 0], [1, 0.01], [0.9, 0.5]))
    assert measured({"embedding": one}, {"embedding": near})["head/embedding"].is_within
    assert not measured({"embedding": one}, {"embedding": far})["head/embedding"].is_within
    row = measured({"probabilities": near}, {"probabilities": far}, "int8")["head/probabilities"]
    assert not row.is_within
    lost = {"probabilities": np.full(2, np.nan, np.float32)}
    assert not measured({"probabilities": near}, lost)["head/probabilities"].is_within


@pytest.mark.parametrize(
    ("own", "other", "is_within", "compared"),
    [
        (0.5, 0.5004, True, 7),
        (0.5, 0.4994, False, 7),
        (0.5, math.nan, False, 7),
        (0.0, 0.1, False, 7),
        (0.0, 0.0, True, 0),  # two models that find nothing are equal in nothing
        (math.nan, math.nan, True, 0),
    ],
)
def test_metrics(own: float, other: float, is_within: bool, compared: int) -> None:
    values = ({"head/AP": own, "head/AP50": 1.0}, {"head/AP": other, "head/AP50": 0.0})
    (row,) = of_metrics(*values, {"head": "AP"}, LIMITS["fp32"], 7)
    assert row.is_within is is_within
    assert row.compared == compared


def test_masks_of_the_same_box_are_compared() -> None:
    planes = np.zeros((2, 20, 20), bool)
    planes[0, 5:15, 5:15] = planes[1, 5:15, 5:10] = True
    whole, half = encode(planes)
    result = {
        "boxes": np.array([[5.0, 5, 15, 15]]),
        "scores": np.array([0.9]),
        "labels": np.array([0]),
    }
    rows = {}
    for name, mask in (("same", whole), ("half", half)):
        differences = Differences(LIMITS["fp32"])
        differences.update({**result, "masks": [whole]}, {**result, "masks": [mask]}, 1.0)
        (rows[name],) = (r for r in differences.measured("d") if "another shape" in r.name)
    assert (rows["same"].difference, rows["same"].compared) == (0, 2)
    assert rows["half"].difference == 100
    assert not rows["half"].is_within
