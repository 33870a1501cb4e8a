from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import MeanIoU
from densekit.metrics.segmentation import mask_pair
from tests.unit.metrics.segmentation.mask_scenes import figures_of, mask_scene, one

NAMES = ["sky", "road", "car"]


def test_by_hand():
    truth = [[0, 0, 1, 1], [2, 2, 255, 1]]
    predicted = [[0, 1, 1, 1], [2, 0, 2, 1]]
    found = figures_of(MeanIoU(NAMES, background=True), *one(truth, predicted))
    assert found == pytest.approx(
        {
            "mIoU": (1 / 3 + 3 / 4 + 1 / 2) / 3,
            "mIoU_per_image": (1 / 3 + 3 / 4 + 1 / 2) / 3,
            "mIoU_per_image_left_out": 0,
            "accuracy": 5 / 7,
            "mean_accuracy": (1 / 2 + 1 + 1 / 2) / 3,
            "frequency_weighted_IoU": (2 / 3 + 3 * 3 / 4 + 2 / 2) / 7,
            "mIoU_foreground": (3 / 4 + 1 / 2) / 2,
            "IoU/sky": 1 / 3,
            "IoU/road": 3 / 4,
            "IoU/car": 1 / 2,
        },
        abs=1e-15,
    )


def test_the_two_conventions_differ():
    metric = MeanIoU(["a", "b"])
    metric.update(*one([[0, 0, 0, 1]], [[0, 0, 0, 0]], image_id=1))  # a 3/4, b 0
    found = figures_of(metric, *one([[1, 1, 1, 1]], [[1, 1, 1, 1]], image_id=2))  # b 1, no a
    assert found["mIoU"] == (3 / 4 + 4 / 5) / 2
    assert found["mIoU_per_image"] == (3 / 8 + 1) / 2


def test_an_absent_class_is_left_out_and_an_invented_one_is_zero():
    found = figures_of(MeanIoU(NAMES), *one([[0, 0, 0, 0]], [[0, 0, 0, 1]]))
    assert (found["IoU/sky"], found["IoU/road"]) == (3 / 4, 0)
    assert np.isnan(found["IoU/car"])
    assert found["mIoU"] == 3 / 8
    assert found["mean_accuracy"] == 3 / 4


def test_binary_is_the_iou_of_the_foreground():
    metric = MeanIoU(["cell"])
    metric.update(*one([[0, 0]], [[0, 0]], image_id=1))  # nothing there, nothing found
    found = figures_of(metric, *one([[0, 1, 1, 255]], [[0, 1, 0, 1]], image_id=2))
    assert found["mIoU"] == found["mIoU_per_image"] == found["IoU/cell"] == 1 / 2
    assert found["mean_accuracy"] == found["frequency_weighted_IoU"] == 1 / 2
    assert found["accuracy"] == 4 / 5
    assert "mIoU_foreground" not in found


def test_multilabel_counts_every_answer():
    truth = [[[1, 1, 0, 0]], [[1, 0, 0, 255]]]
    predicted = [[[1, 0, 0, 0]], [[1, 1, 0, 1]]]
    found = figures_of(MeanIoU(["a", "b"], multilabel=True), *one(truth, predicted))
    assert (found["IoU/a"], found["IoU/b"], found["mIoU"]) == (1 / 2, 1 / 2, 1 / 2)
    assert found["accuracy"] == 5 / 7


def test_counts_do_not_depend_on_the_size_of_chunks(monkeypatch):
    scene = mask_scene(5, 3, 4, ignored=0.1)
    whole = figures_of(MeanIoU(list("abcd")), *scene)
    monkeypatch.setattr(mask_pair, "CHUNK", 7)
    assert figures_of(MeanIoU(list("abcd")), *scene) == whole


def test_as_many_classes_as_a_mask_can_hold():
    names = [str(k) for k in range(255)]
    mask = np.arange(256).reshape(16, 16)  # 255 is void
    found = figures_of(MeanIoU(names), *one(mask, mask % 255))
    assert found["mIoU"] == 1
    with pytest.raises(ValueError, match="names: expected 1 to 255 classes, got 256"):
        MeanIoU([*names, "255"])
