"""Two metrics of the same detections are explained once."""

from __future__ import annotations

import numpy as np

from densekit.app.reports.analyses import analyses
from densekit.evaluation import Measured
from densekit.metrics import CocoMap, VocMap
from tests.unit.metrics.detection.scenes import random_scene


def test_two_protocols_of_boxes_are_explained_once() -> None:
    scene = random_scene(np.random.default_rng(0), 6, 2)
    measured = []
    for name, kind in (("coco", CocoMap), ("voc", VocMap)):
        metric = kind(["cat", "dog"])
        metric.update(*scene)
        metric.compute()
        measured.append(Measured("scenes", "detection", name, metric, {}))
    titles = [block.title for block in analyses(measured)]
    assert titles == [one.title for one in measured[0].metric.analyses()]
    assert len(analyses(measured[1:])) == len(titles)
