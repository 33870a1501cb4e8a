"""A metric of drawn images equals the metric of a data set in which they occur so often."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import (
    Accuracy,
    CalibrationError,
    CocoMap,
    CocoMaskMap,
    DiceScore,
    Identification,
    MeanIoU,
    MultilabelMap,
    Verification,
    VocMap,
    VocMaskMap,
)
from densekit.metrics.bootstrap import draws as draws_of
from densekit.metrics.embedding.roc import area, at_false_accept_rate, equal_error_rate, roc
from tests.unit.metrics.detection.scenes import masked, random_scene
from tests.unit.metrics.embedding.faces import comparisons, scene

IMAGES = 12


def boxes(seed: int, **scene):
    rng = np.random.default_rng(seed)
    return random_scene(rng, IMAGES, 2, crowd=0.2, detections=20, **scene)


def outlined(seed: int):
    return masked(boxes(seed))


def masks(seed: int):
    rng = np.random.default_rng(seed)
    ids = range(3, 3 + IMAGES)
    truths = [{"image_id": i, "mask": rng.integers(0, 2, (6, 5)).astype(np.uint8)} for i in ids]
    return [{"mask": rng.integers(0, 2, (6, 5)).astype(np.uint8)} for _ in ids], truths


def categories(seed: int):
    rng = np.random.default_rng(seed)
    truths = [{"image_id": i, "category": np.int64(rng.integers(2))} for i in range(IMAGES)]
    return [{"probabilities": rng.dirichlet([1, 1])} for _ in truths], truths


def labels(seed: int):
    rng = np.random.default_rng(seed)
    truths = [{"image_id": i, "category": rng.integers(0, 2, 2)} for i in range(IMAGES)]
    return [{"probabilities": rng.integers(0, 9, 2) / 8} for _ in truths], truths  # many ties


def repeated(results, truths, counts):
    """Each image as often as it was drawn, the copies side by side, with ids of their own."""
    ids = np.repeat(np.arange(len(truths)), counts)
    return [results[i] for i in ids], [
        truths[i] | {"image_id": place} for place, i in enumerate(ids)
    ]


METRICS = [
    (CocoMap, boxes),
    (lambda names: CocoMap(names, max_detections=3), boxes),
    (lambda names: VocMap(names, iou_thresholds=(0.5, 0.75)), boxes),
    (CocoMaskMap, outlined),
    (VocMaskMap, outlined),
    (MeanIoU, masks),
    (DiceScore, masks),
    (Accuracy, categories),
    (lambda names: CalibrationError(), categories),
    (MultilabelMap, labels),
]


@pytest.mark.parametrize(("make", "data"), METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_measured_as_if_images_were_listed_so_often(make, data, seed):
    results, truths = data(seed)
    metric = make(["cat", "dog"])
    metric.update(results, truths)
    metric.compute()
    rng = np.random.default_rng(seed)
    draws = np.vstack([np.ones(IMAGES, int), rng.multinomial(IMAGES, [1 / IMAGES] * IMAGES, 6)])
    drawn = metric.resampled(draws)
    for r, counts in enumerate(draws):
        other = make(["cat", "dog"])
        other.update(*repeated(results, truths, counts))
        wanted = other.compute()
        assert drawn
        for name, values in drawn.items():
            assert values[r] == pytest.approx(float(wanted[name]), abs=1e-12, nan_ok=True), name


def test_a_class_that_was_not_drawn_is_left_out_of_the_mean():
    box = np.array([[0.0, 0, 10, 10]])
    truths = [{"image_id": i, "boxes": box, "labels": np.array([i])} for i in range(2)]
    results = [{"boxes": box, "labels": t["labels"], "scores": np.ones(1)} for t in truths]
    metric = CocoMap(["cat", "dog"])
    metric.update(results, truths)
    metric.compute()
    drawn = metric.resampled(np.array([[2, 0], [0, 0]]))
    assert drawn["AP"][0] == pytest.approx(1)
    assert np.isnan([drawn["AP/dog"][0], drawn["AP"][1]]).all()


@pytest.mark.parametrize("subjects", [True, False])
def test_comparisons_count_as_often_as_their_subjects_are_drawn(subjects):
    results, truths = scene()
    metric = Verification([0.01])
    metric.update(results, truths)
    metric.compute()
    person = [truth["identity"] for truth in truths]
    draws = draws_of(person if subjects else range(len(truths)), 99)
    drawn = metric.resampled(draws)
    scores, same, _ = comparisons(results, truths)
    pairs = np.concatenate(
        [[(t["image_id"], p[0]) for p in t["pairs"]] for t in truths if len(t["pairs"])]
    )
    for r, counts in enumerate(draws[:5]):
        times = counts[pairs[:, 0]] * counts[pairs[:, 1]]
        times = np.where(same, counts[pairs[:, 0]], times) if subjects else times
        curve = roc(np.repeat(scores, times), np.repeat(same, times))
        assert drawn["auc"][r] == pytest.approx(area(curve))
        assert drawn["eer"][r] == pytest.approx(equal_error_rate(curve))
        wanted = at_false_accept_rate(curve, 0.01)[0]
        assert drawn["tar_at_1e-2"][r] == pytest.approx(wanted, nan_ok=True)


def test_probes_are_drawn_against_the_whole_gallery():
    results, truths = scene(people=4, images=4)
    metric = Identification()
    metric.update(results, truths)
    whole = metric.compute()
    draws = np.vstack([np.ones(16, int), np.eye(16, dtype=int)])
    drawn = metric.resampled(draws)
    for name, values in drawn.items():
        assert values[0] == pytest.approx(float(whole[name]))
        assert values[1:].mean() == pytest.approx(float(whole[name]))


@pytest.mark.parametrize("metric", [Verification([0.1]), Identification()])
def test_faces_without_a_comparison_have_no_interval(metric):
    truths = [{"image_id": i, "identity": i} for i in range(3)]
    metric.update([{"embedding": np.eye(3)[i]} for i in range(3)], truths)
    metric.compute()
    drawn = metric.resampled(draws_of(range(3), 4))
    assert np.isnan([values for values in drawn.values()]).all()
