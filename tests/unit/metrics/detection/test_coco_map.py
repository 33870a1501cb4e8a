from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from densekit.metrics import CocoMap, VocMap
from tests.unit.metrics.detection.scenes import random_scene

WHOLE = pytest.approx(1.0)  # like pycocotools', a precision of one lacks the last bit
BOX = np.array([[10.0, 10.0, 60.0, 60.0]])


def truth(image_id=1, boxes=BOX, labels=(0,), **more):
    return {"image_id": image_id, "boxes": boxes, "labels": np.array(labels), **more}


def result(boxes=BOX, labels=(0,), scores=(0.9,)):
    return {"boxes": boxes, "labels": np.array(labels), "scores": np.array(scores)}


EMPTY = result(np.zeros((0, 4)), (), ())


def figures(*pairs, **arguments):
    metric = CocoMap(["cat", "dog"], **arguments)
    metric.update([r for r, _ in pairs], [t for _, t in pairs])
    return {name: float(value) for name, value in metric.compute().items()}


def test_a_found_object_is_worth_one_and_an_absent_class_is_nan():
    found = figures((result(), truth()))
    for name in ("AP", "AP50", "AR1", "AP/cat", "AP_medium"):
        assert found[name] == WHOLE, name
    for name in ("AP/dog", "AP_small", "AP_large", "AR_small"):
        assert np.isnan(found[name]), name


def test_a_missed_object_is_worth_zero():
    assert figures((EMPTY, truth()))["AP"] == 0.0


def test_the_area_is_the_annotations_own():
    assert figures((result(), truth(area=np.array([100.0]))))["AP_small"] == WHOLE


@pytest.mark.parametrize(("column", "value"), [(0, 7.0), (1, 2.0), (1, 0.5), (2, np.nan)])
@pytest.mark.parametrize("state", ["detections", "truth"])
def test_rows_that_no_update_has_kept_are_refused(state, column, value):
    metric = CocoMap(["cat", "dog"])
    metric.update([result()], [truth()])
    metric.compute()
    rows = {name: values.copy() for name, values in metric.computed_rows().items()}
    rows[state][column] = value
    with pytest.raises(ValueError, match=f"{state}: expected finite rows of its images"):
        CocoMap(["cat", "dog"]).recompute(rows)


def test_a_crowd_takes_in_detections_and_is_never_missed():
    crowd = truth(2, np.array([[0.0, 0.0, 200.0, 200.0]]), crowd=np.array([True]))
    inside = result(np.repeat(BOX, 3, axis=0), (0, 0, 0), (0.99, 0.98, 0.97))
    assert figures((result(), truth()), (inside, crowd))["AP"] == WHOLE
    assert figures((result(), truth()), (EMPTY, crowd))["AP"] == WHOLE


def test_detections_in_an_image_without_objects_are_wrong():
    nothing = truth(2, np.zeros((0, 4)), ())
    found = figures((result(), truth()), (result(scores=(0.95,)), nothing))
    assert found["AP"] == pytest.approx(0.5)


def test_detections_beyond_the_limit_do_not_count():
    far = np.array([[100.0, 100.0, 120.0, 120.0]])
    boxes = np.concatenate((np.repeat(far, 12, axis=0), BOX))
    late = result(boxes, (0,) * 13, np.linspace(0.9, 0.1, 13))
    assert figures((late, truth()))["AR10"] == 0.0
    assert figures((late, truth()))["AR100"] == WHOLE
    assert figures((late, truth()), max_detections=12)["AR12"] == 0.0
    found = figures((late, truth()), max_detections=300)
    assert found["AR300"] == WHOLE
    assert "AR100" not in found
    assert "AR10" not in figures((late, truth()), max_detections=5)


@pytest.mark.parametrize("updates", [0, 1], ids=["no-update", "empty-update"])
def test_nothing_to_measure_is_nan_with_a_reason(updates, caplog):
    metric = CocoMap(["cat", "dog"])
    for _ in range(updates):
        metric.update([], [])
    with caplog.at_level(logging.WARNING):
        values = metric.compute()
    assert list(values)[:3] == ["AP", "AP50", "AP75"]
    assert len(values) == 14
    assert all(torch.isnan(v) for v in values.values())
    assert "no images" in caplog.text


def test_images_without_any_object_are_nan_with_a_reason(caplog):
    found = figures((result(), truth(1, np.zeros((0, 4)), ())))
    assert np.isnan(list(found.values())).all()
    assert "none of 1 images has an annotated box" in caplog.text


def test_the_order_of_batches_does_not_matter():
    results, truths = random_scene(np.random.default_rng(0), 9, 3, crowd=0.1, ties=True)
    values = []
    for order in (range(9), reversed(range(9))):
        metric = CocoMap(["a", "b", "c"])
        for i in order:
            metric.update([results[i]], [truths[i]])
        values.append({k: float(v) for k, v in metric.compute().items()})
    np.testing.assert_equal(*values)


def test_tensors_and_arrays_are_equal_and_reset_forgets():
    results, truths = random_scene(np.random.default_rng(1), 5, 2)
    metric = CocoMap(["a", "b"])
    metric.update(results, truths)
    arrays = {k: float(v) for k, v in metric.compute().items()}
    metric.reset()
    metric.update([{k: torch.as_tensor(v) for k, v in r.items()} for r in results], truths)
    np.testing.assert_equal({k: float(v) for k, v in metric.compute().items()}, arrays)


def test_state_is_flat_float64():
    metric = CocoMap(["cat", "dog"])
    metric.update([result(), EMPTY], [truth(1), truth(2)])
    assert [t.shape for t in (*metric.images, *metric.detections, *metric.truth)] == [
        (2,),
        (7,),
        (18,),
    ]
    assert {t.dtype for t in (*metric.images, *metric.detections)} == {torch.float64}
    assert all(v.dtype == torch.float64 for v in metric.compute().values())


def test_what_cannot_be_right_is_refused():
    with pytest.raises(
        ValueError, match="names: expected names that differ, got more than once: cat"
    ):
        CocoMap(["cat", "dog", "cat"])
    with pytest.raises(ValueError, match="max_detections: expected at least 1, got 0"):
        CocoMap(["cat"], max_detections=0)
    metric = CocoMap(["cat", "dog"])
    with pytest.raises(ValueError, match=r"results: expected one per annotated image \(2\), got 1"):
        metric.update([result()], [truth(1), truth(2)])
    with pytest.raises(
        ValueError,
        match="a detection in image 7: expected labels of 0 to 1 .* got 2",
    ):
        metric.update([result(labels=(2,))], [truth(7)])
    with pytest.raises(ValueError, match="annotation of image 7: expected labels .* got -1"):
        metric.update([result()], [truth(7, labels=(-1,))])
    with pytest.raises(
        ValueError, match="a detection in image 7: expected finite boxes, scores and areas, got"
    ):
        metric.update([result(scores=(np.nan,))], [truth(7)])


@pytest.mark.parametrize("metric", [CocoMap, VocMap])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": (0.5,)}, "expected labels that are whole numbers, got 0.5"),
        ({"labels": ((0,),)}, r"expected labels of shape \(1,\), one a box, got \(1, 1\)"),
        ({"labels": (0, 1)}, r"expected labels of shape \(1,\), one a box, got \(2,\)"),
        ({"boxes": ((9, 1, 2, 8),)}, r"expected boxes with x1 <= x2 .* got \[9.0, 1.0, 2.0, 8.0\]"),
        ({"boxes": ((1, 9, 2, 8),)}, "expected boxes with x1 <= x2 and y1 <= y2"),
        ({"boxes": (1, 2, 3, 4)}, r"expected boxes of shape \(N, 4\), got \(4,\)"),
        ({"boxes": ((1, 2, 3, 4, 5),)}, r"expected boxes of shape \(N, 4\), got \(1, 5\)"),
    ],
)
def test_shapes_and_values_are_checked(metric, changed, message):
    measured = metric(["cat", "dog"])
    arrays = {key: np.array(value, np.float64) for key, value in changed.items()}
    with pytest.raises(ValueError, match=f"a detection in image 7: {message}"):
        measured.update([{**result(), **arrays}], [truth(7)])
    with pytest.raises(ValueError, match=f"the annotation of image 7: {message}"):
        measured.update([result()], [{**truth(7), **arrays}])
    for key in ("crowd", "area", "difficult"):
        with pytest.raises(ValueError, match=f"expected {key} of shape"):
            measured.update([result()], [{**truth(7), key: np.zeros(2)}])
    with pytest.raises(ValueError, match="expected scores of shape"):
        measured.update([{**result(), "scores": np.zeros((1, 2))}], [truth(7)])
    measured.update([{**result(), "boxes": np.array([[1, 1, 1, 4.0]])}], [truth(7)])  # no area


def test_an_image_given_twice_is_refused():
    metric = CocoMap(["cat", "dog"])
    metric.update([result(), result()], [truth(7), truth(8)])
    metric.update([result()], [truth(7)])
    with pytest.raises(
        ValueError,
        match=r"CocoMap: expected every image once, got image 7 again",
    ):
        metric.compute()


@pytest.mark.parametrize("first", [0, 2**53, 1726000000000000001, -(2**63), 2**63 - 2])
@pytest.mark.parametrize("kind", [CocoMap, VocMap])
def test_neighbouring_ids_of_64_bits_are_two_images(kind, first):
    other = result(np.array([[100.0, 100.0, 150.0, 150.0]]))
    metric = kind(["cat", "dog"])
    metric.update([result(), other], [truth(first), truth(first + 1, other["boxes"])])
    assert float(next(iter(metric.compute().values()))) == 1.0
    metric.reset()
    metric.update([other, result()], [truth(first), truth(first + 1, other["boxes"])])
    assert float(next(iter(metric.compute().values()))) == 0.0
    with pytest.raises(ValueError, match=r"expected a whole number of 64 bits"):
        metric.update([result()], [truth(2**63)])
