from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import VocMap
from densekit.metrics.detection.voc_map import eleven_point_area, every_point_area
from tests.unit.metrics.detection.scenes import random_scene


def devkit_ap(results, truths, label, threshold, eleven_points):
    """The development kit's evaluation of one class, as plainly as it can be written."""
    taken = {t["image_id"]: np.zeros(len(t["labels"]), dtype=bool) for t in truths}
    by_id = {t["image_id"]: t for t in truths}
    rows = [
        (float(score), t["image_id"], box.astype(np.float64))
        for r, t in zip(results, truths, strict=True)
        for score, box, kind in zip(r["scores"], r["boxes"], r["labels"], strict=True)
        if kind == label
    ]
    right = []
    for _, image_id, box in sorted(rows, key=lambda row: -row[0]):
        truth = by_id[image_id]
        best, where = -np.inf, None
        for n, other in enumerate(truth["boxes"]):
            if truth["labels"][n] == label and (overlap := iou(box, other)) > best:
                best, where = overlap, n
        if best < threshold:
            right.append(False)
        elif not truth["difficult"][where]:
            right.append(not taken[image_id][where])
            taken[image_id][where] = True
    positives = sum(((t["labels"] == label) & ~t["difficult"]).sum() for t in truths)
    if positives == 0:
        return np.nan
    hits = np.cumsum(right)
    recall, precision = hits / positives, hits / np.arange(1, len(hits) + 1)
    if eleven_points:
        best = [max(precision[recall >= p], default=0) for p in np.arange(0, 1.1, 0.1)]
        return sum(best) / 11
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    for n in range(len(precision) - 2, -1, -1):
        precision[n] = max(precision[n], precision[n + 1])
    steps = np.where(recall[1:] != recall[:-1])[0]
    return ((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum()


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    shared = sides.prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


@pytest.mark.parametrize(("num_images", "num_classes"), [(25, 2), (17, 12), (1, 1)])
def test_random_scenes_equal_the_devkit(num_images, num_classes):
    rng = np.random.default_rng(num_images)
    results, truths = random_scene(rng, num_images, num_classes, ties=num_images > 20)
    names = [f"c{k}" for k in range(num_classes)]
    metric = VocMap(names, iou_thresholds=[0.5, 0.7])
    metric.update(results, truths)
    figures = metric.compute()
    for threshold in (0.5, 0.7):
        for definition, eleven in (("VOC07", True), ("VOC10", False)):
            key = f"{definition}_AP{100 * threshold:.0f}"
            expected = [
                devkit_ap(results, truths, k, threshold, eleven) for k in range(num_classes)
            ]
            ours = [float(figures[f"{key}/{name}"]) for name in names]
            np.testing.assert_allclose(ours, expected, atol=1e-12)
            np.testing.assert_allclose(float(figures[key]), np.nanmean(expected), atol=1e-12)


def one_image(boxes, scores, truth_boxes, **more):
    metric = VocMap(["cat", "dog"])
    labels = np.zeros(len(boxes), dtype=int)
    metric.update(
        [{"boxes": np.array(boxes, dtype=float), "scores": np.array(scores), "labels": labels}],
        [
            {
                "image_id": 1,
                "boxes": np.array(truth_boxes, dtype=float),
                "labels": np.zeros(len(truth_boxes), dtype=int),
                **more,
            }
        ],
    )
    return {name: float(value) for name, value in metric.compute().items()}


A, B = [0, 0, 10, 10], [50, 50, 60, 60]


def test_a_second_detection_of_a_box_is_wrong():
    assert one_image([A, B], [0.9, 0.8], [A, B])["VOC10_AP50"] == 1.0
    assert one_image([A, A, B], [0.9, 0.8, 0.7], [A, B])["VOC10_AP50"] == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_difficult_boxes_and_their_detections_do_not_count(kind):
    marked = {kind: np.array([False, True])}
    assert one_image([B, B, A], [0.9, 0.8, 0.7], [A, B], **marked)["VOC10_AP50"] == 1.0
    assert one_image([A], [0.7], [A, B], **marked)["VOC07_AP50"] == 1.0


def test_the_threshold_itself_is_reached():
    assert one_image([[0, 0, 10, 5]], [0.9], [A])["VOC10_AP50"] == 1.0


def test_classes_without_ground_truth_are_nan_and_not_in_the_mean():
    figures = one_image([A], [0.9], [A])
    assert list(figures) == [
        f"{d}_AP50{n}" for d in ("VOC07", "VOC10") for n in ("", "/cat", "/dog")
    ]
    assert np.isnan(figures["VOC07_AP50/dog"])
    assert figures["VOC07_AP50"] == 1.0
    assert one_image([], [], [A])["VOC07_AP50"] == 0.0
    assert np.isnan(one_image([A], [0.9], [])["VOC10_AP50"])


def test_without_updates_everything_is_nan():
    assert np.isnan([float(v) for v in VocMap(["cat"]).compute().values()]).all()


def test_the_two_definitions_on_a_known_curve():
    precision, recall = np.array([1.0, 0.5, 2 / 3]), np.array([0.5, 0.5, 1.0])
    assert every_point_area(precision, recall) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert eleven_point_area(precision, recall) == pytest.approx((6 + 5 * 2 / 3) / 11)


@pytest.mark.parametrize("thresholds", [[], [0.0], [0.5, 50]])
def test_thresholds_out_of_range_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"iou_thresholds: expected one or more numbers in"):
        VocMap(["cat"], iou_thresholds=thresholds)
