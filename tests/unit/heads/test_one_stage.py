"""One-stage heads: losses on any number of objects, the best pairs, back ends, detections."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit.heads import ATSS, FCOS, YOLOX, RetinaNet
from densekit.heads.one_stage import DenseDetectionRule, detectron2_retinanet, mmdet_retinanet
from densekit.heads.one_stage.detections import Candidates, best_of_level, select_dense
from densekit.losses import GIoUBox, SmoothL1Box
from tests.unit.heads.one_stage_cases import LEVELS, SIDES, features, one_stage, ssd
from tests.unit.tiny import targets

HEADS: dict[str, Any] = {
    "atss": partial(one_stage, ATSS),
    "fcos": partial(one_stage, FCOS),
    "retinanet": partial(one_stage, RetinaNet, box_loss=SmoothL1Box(0.1)),
    "retinanet_detectron2": partial(one_stage, RetinaNet, **detectron2_retinanet()),
    "retinanet_giou": partial(one_stage, RetinaNet, box_loss=GIoUBox()),
    "ssd": ssd,
    "yolox": partial(one_stage, YOLOX, channels=8, norm="group", l1_weight=1),
}


@pytest.mark.parametrize("counts", [[0], [1], [500], [0, 3], [2, 5, 0]])
@pytest.mark.parametrize("name", HEADS)
def test_any_number_of_objects(counts: list[int], name: str) -> None:
    made = HEADS[name]()
    losses = made.loss(features(len(counts)), targets(counts))
    assert {"cls", "box"} <= losses.keys()
    assert all(value.isfinite() and value.shape == () for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert (losses["box"] == 0) == (max(counts) == 0)


@pytest.mark.parametrize("name", HEADS)
def test_crowds_and_repeated_images_do_not_count(name: str) -> None:
    batch, levels, made = targets([2, 3]), features(2), HEADS[name]()
    alone = {name: value[:1] for name, value in levels.items()}
    first: Any = {name: value[:1] for name, value in batch.items() if isinstance(value, Tensor)}
    expected = made.loss(alone, first)
    batch["sample_valid"][1] = False
    for term, value in made.loss(levels, batch).items():
        torch.testing.assert_close(value, expected[term])

    crowd = targets([1, 1])
    crowd["boxes"][:, 0] = torch.tensor([-2000.0, -2000, 2000, 2000])
    assert made.loss(levels, crowd)["cls"] > 0
    crowd["crowd"][:, 0] = True
    assert not any(made.loss(levels, crowd).values())


@pytest.mark.parametrize("count", [1, 7, 40, 10_000])
def test_best_pairs_are_those_of_a_search_over_all(count: int) -> None:
    torch.manual_seed(0)
    scores, deltas, anchors = torch.randn(2, 30, 4), torch.randn(2, 30, 4), torch.randn(30, 4)
    found = best_of_level(scores, deltas, anchors, count)
    value, index = scores.flatten(1).sort(1, descending=True)
    value, index = value[:, :count], index[:, :count]
    assert torch.equal(found.scores, value)
    assert torch.equal(found.labels, index % 4)
    assert torch.equal(found.anchors, anchors[index // 4])
    assert torch.equal(found.deltas[1], deltas[1, index[1] // 4])


@pytest.mark.parametrize("name", HEADS)
def test_back_ends_agree(name: str) -> None:
    levels, size = features(2), torch.tensor([[64, 96], [40, 50]])
    made = HEADS[name]().eval()
    with torch.no_grad():
        found = []
        for backend in ("static", "ragged"):
            made.backend = backend  # type: ignore[assignment]
            found.append(made.predict(levels, size))
    assert found[0]["valid"].any(1).all()
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key])


@pytest.mark.parametrize("name", HEADS)
def test_a_broken_image_does_not_touch_the_others(name: str) -> None:
    levels, size = features(2), torch.tensor([SIDES, SIDES])
    made = HEADS[name]().eval()
    with torch.no_grad():
        expected = made.predict(levels, size)
        levels["p4"][1, 0, 0, 0] = torch.nan
        found = made.predict(levels, size)
    for key in ("boxes", "scores", "labels", "valid"):
        torch.testing.assert_close(found[key][0], expected[key][0])
    assert found["boxes"][found["valid"]].isfinite().all()


@pytest.mark.parametrize("kind", [ATSS, FCOS, RetinaNet])
def test_one_float_copy_of_the_logits_is_kept_for_backward(kind: Any) -> None:
    made, levels, classes = kind(LEVELS, 7, depth=1), features(2), 7
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.is_floating_point() and x.shape[-1:] == (classes,):
            kept[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        losses = made.loss(levels, targets([3, 2]))
    anchors = sum(len(level.anchors) for level in made.levels(levels))
    assert sum(kept.values()) == 2 * anchors * classes
    sum(losses.values()).backward()


def candidates(*boxes: list[float]) -> Candidates:
    """Boxes of one class by descending score, as anchors that do not move."""
    anchors = torch.tensor([boxes])
    scores = torch.linspace(0.9, 0.7, len(boxes))[None]
    return Candidates(scores, torch.zeros_like(scores).long(), torch.zeros_like(anchors), anchors)


def test_boxes_are_clipped_before_or_after_suppression() -> None:
    """Two boxes overlap a little; inside the image they are the same."""
    both = candidates([50, 0, 90, 20], [50, 0, 160, 20])
    size = torch.tensor([[64, 64]])
    for preset, count in ((mmdet_retinanet(), 1), (detectron2_retinanet(), 2)):
        found = select_dense(both, size, preset["detection"])
        assert found["valid"].sum() == count
        assert found["boxes"][0, 0].tolist() == [50, 0, 64, 20]


@pytest.mark.parametrize("clip_first", [True, False])
@pytest.mark.parametrize("drop_empty", [True, False])
def test_boxes_outside_the_image(clip_first: bool, drop_empty: bool) -> None:
    """An empty box is dropped before the cut, or after it, as in detectron2, or never."""
    three = candidates([70, 0, 90, 20], [10, 10, 20, 20], [30, 30, 40, 40])
    rule = DenseDetectionRule(max_detections=2, clip_first=clip_first, drop_empty=drop_empty)
    found = select_dense(three, torch.tensor([[64, 64]]), rule)
    kept = found["boxes"][found["valid"]].tolist()
    second, third = [10, 10, 20, 20], [30, 30, 40, 40]
    if not drop_empty:
        assert kept == [[64, 0, 64, 20], second]
    else:
        assert kept == ([second, third] if clip_first else [second])
    assert not found["valid"].int().diff().gt(0).any()  # the valid ones come first
