"""Every detector trains and evaluates on genuine COCO annotations, by COCO's and VOC's metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from densekit.app.cli import main

pytestmark = [pytest.mark.real, pytest.mark.slow]
HEADS = {
    "faster_rcnn_small": [],
    "mask_rcnn_small": [],
    "retinanet": ["heads.detection.depth=1"],
    "fcos": ["heads.detection.depth=1"],
    "atss": ["heads.detection.depth=1"],
    "ssd": ["heads.detection.side=160"],
    "yolox": ["heads.detection.channels=32"],
}
SMALL = [
    *("resize.min_size=128", "resize.max_size=214", "backbone.width=16", "neck.out_channels=32"),
    *("data.coco.train_transform.steps.resize.min_sizes=[128]", "data.coco.num_workers=0"),
    *(
        "data.coco.num_train_images=12",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=3",
        "trainer.accelerator=cpu",
    ),
    *("precision=32-true", "progress=none", "on_broken=unchecked", "callbacks.pictures=null"),
    *("metrics=[coco,voc]", "callbacks.intervals.resamples=0"),
]


@pytest.mark.parametrize("head", HEADS)
def test_trains_and_evaluates_on_coco(
    head: str, folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder("coco_small").parent
    monkeypatch.chdir(tmp_path)
    words = [f"head={head}", f"paths.data={data}", *SMALL, *HEADS[head]]
    assert main(["train", "experiment=coco_small", *words]) == 0
    (file,) = tmp_path.glob("runs/coco_small/*/metrics.json")
    measured = json.loads(file.read_text())
    for name in ("AP", "AP50", "AP_small", "VOC07_AP50", "VOC10_AP50"):
        value = measured[f"val/detection/{name}"]
        assert math.isfinite(value)
        assert 0 <= value <= 1
