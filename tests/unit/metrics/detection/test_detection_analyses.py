"""What is said about an evaluation of boxes, on scenes that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densekit.metrics import CocoMap, HasAnalyses, HasConfusion, HasFacts, HasSuspects, VocMap
from densekit.metrics.analyses import Bars, Curves, Matrix, Table
from densekit.metrics.detection.calibration import detection_ece
from densekit.metrics.detection.curves import ALL
from tests.unit.metrics.detection.scenes import random_scene

NAMES = ["cat", "dog"]
CAT, DOG = 0, 1
LEFT, RIGHT, FAR = ([0.0, 0.0, 40.0, 40.0], [50.0, 0.0, 90.0, 40.0], [0.0, 80.0, 30.0, 120.0])


def evaluated(images, kind=CocoMap, **arguments):
    """The metric of images of ([(label, box, score)], [(label, box)])."""
    metric = kind(NAMES, **arguments)
    results = [
        {
            "boxes": np.array([box for _, box, _ in found]).reshape(-1, 4),
            "labels": np.array([label for label, _, _ in found]),
            "scores": np.array([score for _, _, score in found]),
        }
        for found, _ in images
    ]
    truths = [
        {
            "image_id": 10 + n,
            "boxes": np.array([one[1] for one in annotated]).reshape(-1, 4),
            "labels": np.array([one[0] for one in annotated]),
            "crowd": np.array(["crowd" in one for one in annotated]),
            "difficult": np.array(["difficult" in one for one in annotated]),
        }
        for n, (_, annotated) in enumerate(images)
    ]
    metric.update(results, truths)
    metric.compute()
    return metric


def by_title(metric):
    return {one.title: one for one in metric.analyses()}


def test_confusion_prefers_the_own_class_and_pairs_what_is_left():
    found = [
        (DOG, LEFT, 0.99),  # the cat is found by its own class: this one is of nothing
        (CAT, LEFT, 0.9),
        (DOG, RIGHT, 0.8),  # a cat is annotated here
        (DOG, FAR, 0.4),  # below the threshold
    ]
    metric = evaluated([(found, [(CAT, LEFT), (CAT, RIGHT), (DOG, FAR)])])
    assert metric.confusion().tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    matrix = by_title(metric)["Confusion matrix"]
    assert matrix.rows == ["cat", "dog", "not annotated"]
    assert matrix.columns == ["cat", "dog", "not detected"]
    assert by_title(metric)["Most frequent confusions"].rows == [("cat", "dog", 1)]
    assert metric.cases()[0] == {"image_id": 10, "F1": 1 / 3, "found": 1, "missed": 2, "false": 2}


def test_what_lies_in_a_crowd_counts_nowhere():
    metric = evaluated([([(CAT, LEFT, 0.9)], [(CAT, LEFT, "crowd"), (DOG, FAR)])])
    assert metric.confusion().tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert metric.suspects() == []
    assert by_title(metric)["Calibration by class"].rows == []


def test_difficult_boxes_are_explained_as_voc_measures_them():
    images = [([(CAT, LEFT, 0.9)], [(CAT, LEFT, "difficult"), (DOG, FAR)])]
    assert evaluated(images).confusion().sum() == 2
    assert evaluated(images, VocMap).confusion().sum() == 1


def test_thresholds_are_used_by_cases_and_confusion():
    images = [([(CAT, LEFT, 0.3), (CAT, FAR, 0.1)], [(CAT, LEFT)])] * 20
    metric = evaluated(images)
    best = metric.facts()["best_thresholds"]
    assert best == {"overall": 0.2, "classes": {"cat": 0.2}, "by": "F1 at IoU 0.5"}
    assert metric.cases()[0]["F1"] == 1
    assert metric.confusion()[CAT].tolist() == [20, 0, 0]
    asked = evaluated(images, min_precision=0.5).facts()["best_thresholds"]
    assert asked == {"overall": 0.1, "classes": {"cat": 0.1}, "by": "precision 0.5 at IoU 0.5"}
    with pytest.raises(ValueError, match="CocoMap.min_precision"):
        CocoMap(NAMES, min_precision=2)


def test_suspects_name_image_reason_and_box():
    seen = [((CAT, LEFT, 0.9), (CAT, LEFT))] * 25
    images = [([found], [annotated]) for found, annotated in seen]
    images.append(([(CAT, LEFT, 0.95), (CAT, FAR, 0.97), (DOG, FAR, 0.92)], [(CAT, LEFT)]))
    images.append(([(CAT, LEFT, 0.94)], [(DOG, LEFT)]))
    images.append(([(CAT, LEFT, 0.9)], [(CAT, LEFT), (CAT, FAR)]))
    suspects = evaluated(images).suspects()
    assert [(one.image_id, one.reason, one.confidence) for one in suspects] == [
        (35, "no box annotated where 'cat' was found", 0.97),
        (37, "'cat' annotated where nothing was found", pytest.approx(27 / 28)),
        (36, "annotated as 'dog', found as 'cat'", 0.94),
    ]
    assert [one.box for one in suspects] == [tuple(FAR), tuple(FAR), tuple(LEFT)]


def test_an_object_that_a_weak_detection_comes_near_is_no_suspect():
    images = [([(CAT, LEFT, 0.9)], [(CAT, LEFT)])] * 25
    images.append(([(CAT, LEFT, 0.9), (DOG, FAR, 0.01)], [(CAT, LEFT), (CAT, FAR)]))
    assert evaluated(images).suspects() == []


def test_calibration_is_the_mean_gap_of_bins():
    scores, right = np.array([0.92, 0.94, 0.12, 0.14]), np.array([True, False, False, False])
    # Two bins of two: precision .5 at .93, and 0 at .13.
    assert detection_ece(scores, right) == pytest.approx((0.43 + 0.13) / 2)
    assert np.isnan(detection_ece(scores[:0], right[:0]))


def test_tables_say_where_it_fails():
    small, neighbour = [0.0, 0.0, 20.0, 20.0], [20.0, 0.0, 60.0, 40.0]
    images = [
        ([(CAT, small, 0.9)], [(CAT, small)]),
        ([(CAT, LEFT, 0.8)], [(CAT, LEFT), (DOG, neighbour)]),
    ]
    tables = by_title(evaluated(images))
    assert [row[0:2] + [row[-1]] for row in tables["By class"].rows] == [
        ["cat", 2, 1.0],
        ["dog", 1, 0.0],
    ]
    assert [row[1] for row in tables["By size"].rows] == [1, 2, 0]
    assert [row[-1] for row in tables["By size"].rows] == [1.0, 0.5, None]
    number = tables["By number of objects in the image"].rows
    assert number[0] == ["1", 1, 1, pytest.approx(1), 1.0]
    assert number[1] == ["2 to 5", 1, 2, pytest.approx(0.5), 0.5]
    overlap = {row[0]: row[1:] for row in tables["By overlap with a neighbour"].rows}
    assert overlap["none"] == [1, 1.0, 1.0]
    assert overlap["0.3 to 0.5"] == [2, 0.5, 0.5]  # 20 x 40 of 2400 pixels
    assert tables["Errors by class"].rows[1] == ["dog", 1, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("kind", [CocoMap, VocMap])
def test_curves_agree_with_the_metrics(kind):
    metric = evaluated([], kind)
    metric.update(*random_scene(np.random.default_rng(3), 30, 2, ties=True))
    values = {name: float(value) for name, value in metric.compute().items()}
    curves = by_title(metric)
    assert all(
        len(x) == len(y) <= 100
        for one in curves.values()
        if isinstance(one, Curves)
        for x, y in one.lines.values()
    )
    best = metric.facts()["best_thresholds"]
    f1 = curves["F1 over the score"]
    assert f1.marked[ALL][0] == best["overall"]
    assert f1.marked[ALL][1] >= f1.lines[ALL][1].max()
    if kind is CocoMap:
        recall, precision = curves["Precision and recall at IoU 0.5"].lines[ALL]
        assert list(recall[[0, -1]]) == [0, 1]
        assert precision.mean() == pytest.approx(values["AP50"], abs=0.01)


def test_a_model_that_finds_nothing_loses_all_to_missed_objects():
    gains = by_title(evaluated([([], [(CAT, LEFT), (DOG, FAR)])]))["AP50 lost by type of error"]
    assert {name for name, gain in gains.values.items() if gain} == {"missed", "false negatives"}
    assert gains.values["missed"] == 1
    # The dog alone is left: with nothing detected there, the cat's class has nothing to say.
    one = [([(DOG, FAR, 0.9), (DOG, LEFT, 0.95)], [(CAT, RIGHT), (DOG, FAR)])]
    gains = by_title(evaluated(one))["AP50 lost by type of error"]
    assert gains.values["missed"] == pytest.approx(0.25)


NOTHING, OBJECT, DETECTION = ([], []), ([], [(CAT, LEFT)]), ([(CAT, LEFT, 0.9)], [])


@pytest.mark.parametrize("kind", [CocoMap, VocMap])
@pytest.mark.parametrize(
    "images",
    [[], [NOTHING], [OBJECT], [DETECTION], [([], [(CAT, LEFT, "crowd")])], [OBJECT, DETECTION]],
    ids=["no-image", "nothing", "object", "detection", "crowd", "both"],
)
def test_little_to_say_is_no_fault(kind, images):
    metric = evaluated(images, kind)
    assert all(isinstance(metric, p) for p in (HasAnalyses, HasConfusion, HasFacts, HasSuspects))
    assert metric.facts() == {}
    assert isinstance(metric.suspects(), list)
    assert metric.confusion().shape == (3, 3)
    for one in metric.analyses():
        assert isinstance(one, Table | Curves | Bars | Matrix)
        if isinstance(one, Table):
            json.dumps(one.rows, allow_nan=False)
            assert all(len(row) == len(one.columns) for row in one.rows)
