from __future__ import annotations

import pytest

from densekit.app.studies.coco_evaluation import NUMBERS, check_numbers, evaluation_pair
from densekit.metrics.detection.box_metric import DETECTION_COLUMNS


def test_both_evaluate_the_same_detections_to_equal_numbers():
    pair = evaluation_pair(images=12, classes=3)
    check_numbers(pair)
    assert 0.05 < pair.ours()["AP"] < 0.95
    (rows,) = pair.collect().detections
    assert pair.detections == rows.numel() / DETECTION_COLUMNS


def test_a_last_bit_is_a_difference():
    pair = evaluation_pair(images=4, classes=2)
    ours = dict(pair.ours())
    ours[NUMBERS[2]] *= 1 + 2**-51
    with pytest.raises(RuntimeError, match="AP75: expected pycocotools' "):
        check_numbers(pair._replace(ours=lambda: ours))
