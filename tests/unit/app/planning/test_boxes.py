"""The rules of `densekit plan` for boxes on objects whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from densekit.app.planning.boxes.anchors import (
    Anchors,
    fitted,
    mean_iou,
    planned_anchors,
    point_levels,
    runs,
)
from densekit.app.planning.boxes.reach import reached, without_claims
from densekit.app.planning.boxes.rules import propose, resize_rule, small_side
from densekit.data.box_fingerprint import BoxFingerprint, box_fingerprint
from densekit.heads import SSD, RetinaNet
from densekit.types import FeatureSpec

PYRAMID = {f"p{n}": 2**n for n in range(2, 8)}


def found(side: float, size: tuple[int, int] = (480, 640), images: int = 4) -> BoxFingerprint:
    """A square object in the middle of every image."""
    height, width = size
    box = [width / 2 - side / 2, height / 2 - side / 2, width / 2 + side / 2, height / 2 + side / 2]
    every = np.arange(images)
    sizes, boxes = np.asarray([size] * images), np.asarray([box] * images, dtype=np.float32)
    return BoxFingerprint(["cell"], sizes, boxes, every, np.zeros(images, dtype=np.int64))


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [
        (20, (480, 640), 768),  # enlarged until 32 pixels
        (10, (480, 640), 800),  # but not beyond the usual size
        (4, (160, 160), 320),  # and twice at most
        (100, (480, 640), None),
        (100, (2000, 3000), 1280),  # reduced until 64 pixels
        (1000, (2000, 3000), 800),
        (40, (2000, 3000), None),  # small in a large image: as it is
    ],
)
def test_resize_rule(side: float, size: tuple[int, int], expected: int | None) -> None:
    rule = resize_rule(found(side, size))
    assert (rule and rule["min_size"]) == expected


def test_a_class_of_small_objects_counts_though_it_is_rare() -> None:
    both = found(100, images=20)
    labels, boxes = both.labels.copy(), both.boxes.copy()
    labels[:5], boxes[:5] = 1, [0, 0, 16, 16]
    mixed = BoxFingerprint(["cell", "platelet"], both.sizes, boxes, both.image_of, labels)
    assert small_side(mixed, np.ones(20)) == 16


@pytest.mark.parametrize("side", [6.0, 20.0, 60.0, 300.0])
def test_fitted_anchors_overlap_objects_of_one_size(side: float) -> None:
    sides = np.full((10, 2), side)
    best = fitted(runs(PYRAMID), [(1.0,)], (1.0,), sides)
    assert mean_iou(sides, best.shapes) > 0.5


def test_ratios_are_those_of_the_objects() -> None:
    sides = np.asarray([[12.0, 60.0]] * 10)  # lines of text
    best = fitted(runs(PYRAMID), [(1.0,)], (0.5, 1.0, 2.0), sides)
    assert best.ratios == (0.2, 0.2, 0.2)


def test_a_finer_level_needs_a_reason() -> None:
    large, tiny = (fitted(runs(PYRAMID), [(1.0,)], (1.0,), np.full((9, 2), s)) for s in (64.0, 6.0))
    assert (large.levels[0], tiny.levels[0]) == ("p3", "p2")
    assert list(point_levels(PYRAMID, np.full((9, 2), 64.0), 8.0)) == ["p3", "p4", "p5"]
    assert list(point_levels(PYRAMID, np.full((9, 2), 6.0), 8.0)) == ["p2", "p3", "p4"]
    assert list(point_levels(PYRAMID, np.full((9, 2), 600.0), 8.0))[-1] == "p6"


def test_rare_sizes_count_more_than_their_number() -> None:
    anchors = Anchors(("p3",), (8,), ((64.0,),), (1.0,))
    sides = np.asarray([[64.0, 64.0]] * 100 + [[8.0, 8.0]])
    assert mean_iou(sides, anchors.shapes) < 0.65  # a plain mean is 0.7 within a hundredth


def test_reach_is_the_heads_own_with_and_without_claims() -> None:
    specs = {name: FeatureSpec(8, (s, s)) for name, s in PYRAMID.items()}
    head = RetinaNet(specs, 1, depth=0)
    small = found(8)
    own = reached(head, small, None, 32)
    assert own is not None
    assert own.all()
    assert without_claims(head)
    strict = reached(head, small, None, 32)
    assert strict is not None
    assert not strict.any()
    enlarged = reached(head, small, {"min_size": 1920, "max_size": 4000}, 32)
    assert enlarged is not None
    assert enlarged.all()


def test_default_boxes_of_ssd_are_as_small_as_the_objects() -> None:
    specs = {f"c{n}": FeatureSpec(8, (2**n, 2**n)) for n in (3, 4, 5)}
    head = SSD(specs, 1, extra_channels=())
    planned = planned_anchors(head, {}, np.full((9, 2), 10.0))
    assert planned == {"sizes": [12.0, 24.0, 48.0, 96.0]}
    assert planned_anchors(head, {}, np.full((9, 2), 60.0)) != planned


def by_pixels(height: int, width: int, batch: int) -> float:
    return batch * height * width / 480 / 640


def test_the_batch_fits_and_images_shrink_before_a_step_is_refused() -> None:
    plan = propose(found(100), 1000, None, 4.5, by_pixels)
    assert (plan.batch_size, plan.resize, plan.epochs) == (4, None, 12)
    assert propose(found(100), 50, None, 100.0, by_pixels).batch_size == 2
    shrunk = propose(found(100), 1000, None, 1.0, by_pixels)
    assert shrunk.batch_size == 2
    assert shrunk.resize is not None
    assert shrunk.memory <= 1.0
    with pytest.raises(ValueError, match=r"memory: expected at least 0.02 GiB"):
        propose(found(100), 1000, None, 0.001, by_pixels)


def test_tall_and_wide_images_are_grouped() -> None:
    both = found(100, images=6)
    both.sizes[:3] = [640, 480]
    plan = propose(both, 1000, None, 2.5, by_pixels)
    assert plan.group_by_aspect
    assert plan.padding[1] == 0
    assert not propose(found(100), 1000, None, 2.5, by_pixels).group_by_aspect


class Samples:
    """A data set outside densekit, of samples."""

    def __init__(self, **sample: Any) -> None:
        self.sample = {"image": np.zeros((6, 8, 3), np.uint8), "meta": {"path": "a.png"}, **sample}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.sample

    def describe(self) -> dict[str, Any]:
        return {"names": ["cell"]}


def test_objects_are_clipped_and_crowds_left_out() -> None:
    boxes = np.asarray([[-1, 0, 4, 9], [0, 0, 1, 1]], np.float32)
    samples: Any = Samples(
        boxes=boxes, labels=np.zeros(2, np.int64), crowd=np.asarray([False, True])
    )
    measured = box_fingerprint(samples, [0, 1])
    assert measured.boxes.tolist() == [[0, 0, 4, 6]] * 2
    assert measured.sides(np.asarray([1.0, 2.0])).tolist() == [[6, 4], [12, 8]]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({}, "a.png: expected boxes, got"),
        (
            {
                "boxes": np.zeros((0, 4), np.float32),
                "labels": np.zeros(0, np.int64),
                "crowd": np.zeros(0, bool),
            },
            "train: expected objects to plan for, got 2 images without",
        ),
    ],
)
def test_nothing_to_plan_for(sample: dict[str, Any], message: str) -> None:
    samples: Any = Samples(**sample)
    with pytest.raises(ValueError, match=message):
        box_fingerprint(samples, [0, 1])
