"""Objects out of reach of anchors and points: counted and said in one line."""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from densekit import DenseModel
from densekit.heads import ATSS, FCOS, SSD, YOLOX, Classification, FasterRCNN, RetinaNet
from densekit.necks import FPN
from densekit.ops.simota import SimOTARule
from densekit.training import Reach
from densekit.training.reach import sides_by_reach
from tests.unit.tiny import CLASSES, SMALL_HEAD, TinyBackbone, targets

HEADS: dict[str, Any] = {
    "atss": partial(ATSS, num_classes=CLASSES, depth=1),
    "fcos": partial(FCOS, num_classes=CLASSES, depth=1),
    "retinanet": partial(RetinaNet, num_classes=CLASSES, depth=1),
    "yolox": partial(YOLOX, num_classes=CLASSES, channels=8, matching=SimOTARule(0.5)),
    "faster_rcnn": partial(FasterRCNN, **SMALL_HEAD),
    "ssd": partial(SSD, num_classes=CLASSES, extra_channels=(16,)),
    "kind": partial(Classification, num_classes=CLASSES),
}


def model(*names: str) -> DenseModel:
    heads = {name: HEADS[name] for name in names}
    return DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=8, extra="conv"))


def batch_of(*boxes: list[float]) -> Any:
    """One image of 60 x 90, which is padded to 64 x 96, with these objects and a crowd."""
    batch = targets([len(boxes) + 1], (60, 90))
    batch["boxes"][0, : len(boxes)] = torch.tensor(boxes)
    batch["crowd"][0, -1] = True
    return batch


SMALL, MIDDLE, LARGE = [81.0, 49, 85, 53], [8.0, 8, 40, 40], [0.0, 0, 50, 60]
"""No point of stride 8 lies in the first, and its best anchors overlap no other."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("atss", [4]),
        ("fcos", [4]),
        ("retinanet", []),
        ("ssd", []),
        ("faster_rcnn", []),
        ("yolox", []),
    ],
)
def test_objects_without_an_anchor(name: str, expected: list[float]) -> None:
    sides = sides_by_reach(model(name), name, batch_of(SMALL, MIDDLE, LARGE))
    assert sides is not None
    every, beyond = (row[~row.isnan()].tolist() for row in sides)
    assert every == pytest.approx([4, 32, 3000**0.5])
    assert beyond == expected


def test_the_object_that_loses_its_best_anchor() -> None:
    """Two objects of the same box: both claim the same anchors, and the first has them."""
    sides = sides_by_reach(model("retinanet"), "retinanet", batch_of(MIDDLE, MIDDLE))
    assert sides is not None
    assert sides[1].isnan().tolist() == [True, False, True]


def run(reach: Reach, lit: Any, batches: int, step: int = 0) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=step, datamodule=None)
    reach.on_train_start(trainer, lit)
    for index in range(batches):
        reach.on_train_batch_start(trainer, lit, {"toy": batch_of(SMALL, MIDDLE)}, index)
    reach.on_train_end(trainer, lit)


@pytest.mark.parametrize(("batches", "counted"), [(2, 2), (5, 3)])
def test_one_line_per_head(batches: int, counted: int, caplog: pytest.LogCaptureFixture) -> None:
    lit = SimpleNamespace(model=model("fcos", "retinanet", "kind"))
    with caplog.at_level(logging.INFO):
        run(Reach(batches=3), lit, batches)
    of = f"of the {2 * counted} objects of {counted} batches"
    assert caplog.messages == [
        f"heads.fcos: no anchor or point reaches {counted} {of} (50.0%; median side 4 pixels)",
        f"heads.retinanet: anchors or points reach all {of}",
    ]


def test_a_continued_run_has_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(Reach(), SimpleNamespace(model=model("fcos")), 2, step=7)
    assert not caplog.messages
