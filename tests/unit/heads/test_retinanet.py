"""RetinaNet: losses on any number of objects, the best pairs, equal back ends, detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from densekit.heads import RetinaNet
from densekit.heads.anchors import label_anchors
from densekit.heads.one_stage import (
    DenseDetectionRule,
    FocalRule,
    detectron2_retinanet,
    mmdet_retinanet,
    torchvision_retinanet,
)
from densekit.heads.one_stage.detections import Candidates, best_of_level, select_dense
from densekit.losses import GIoUBox, SmoothL1Box
from densekit.types import Features, FeatureSpec
from tests.unit.tiny import CHANNELS, CLASSES, spread, targets

LEVELS = {f"p{number}": FeatureSpec(CHANNELS, (2**number, 2**number)) for number in range(3, 8)}
SIDES = (64, 96)


def head(**settings: Any) -> RetinaNet:
    made = RetinaNet({"c0": FeatureSpec(3, (1, 1)), **LEVELS}, CLASSES, depth=1, **settings)
    with torch.no_grad():
        made.logits.bias.zero_()
    spread(made)
    return made


def features(batch: int) -> Features:
    torch.manual_seed(0)
    levels = {
        name: torch.randn(batch, CHANNELS, *(-(-side // spec.stride[0]) for side in SIDES))
        for name, spec in LEVELS.items()
    }
    return {"c0": torch.zeros(batch, 3, *SIDES), **levels}


@pytest.mark.parametrize("counts", [[0], [1], [500], [0, 3], [2, 5, 0]])
@pytest.mark.parametrize("box_loss", [SmoothL1Box(0.1), GIoUBox()])
def test_any_number_of_objects(counts: list[int], box_loss: Any) -> None:
    made = head(box_loss=box_loss)
    losses = made.loss(features(len(counts)), targets(counts))
    assert losses.keys() == {"cls", "box"}
    assert all(value.isfinite() and value.shape == () for value in losses.values())
    (losses["cls"] + losses["box"]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert (losses["box"] == 0) == (max(counts) == 0)


def test_crowds_and_repeated_images_do_not_count() -> None:
    batch, levels, made = targets([2, 3]), features(2), head()
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
    assert made.loss(levels, crowd)["cls"] == 0


def test_divisor_of_each_image_or_of_the_batch() -> None:
    """Images of 2 and 3 objects that are divided by their own or by all positive anchors."""
    batch, levels = targets([2, 3]), features(2)
    torch.manual_seed(1)
    own = head()
    torch.manual_seed(1)
    together = head(focal=FocalRule(per_image=False))
    singles, counts = [], []
    for row in range(2):
        part: Any = {k: v[row : row + 1] for k, v in batch.items() if isinstance(v, Tensor)}
        one = {name: value[row : row + 1] for name, value in levels.items()}
        singles.append(own.loss(one, part)["cls"])
        counts.append(singles[-1] * 0 + _positives(own, one, part))
    mean = torch.stack(singles).mean()
    torch.testing.assert_close(own.loss(levels, batch)["cls"], mean)
    shares = torch.stack([one * count for one, count in zip(singles, counts, strict=True)])
    expected = shares.sum() / torch.stack(counts).sum()
    torch.testing.assert_close(together.loss(levels, batch)["cls"], expected)


def _positives(made: RetinaNet, levels: Features, batch: Any) -> int:
    read = [levels[name] for name in made.reads]
    _, label = label_anchors(made.grid(read, SIDES), batch, made.matching)
    return int((label == 1).sum())


@pytest.mark.parametrize("count", [1, 7, 40, 10_000])
def test_best_pairs_are_those_of_a_search_over_all(count: int) -> None:
    torch.manual_seed(0)
    logits, deltas, anchors = torch.randn(2, 30, 4), torch.randn(2, 30, 4), torch.randn(30, 4)
    found = best_of_level(logits, deltas, anchors, count)
    value, index = logits.flatten(1).sort(1, descending=True)
    value, index = value[:, :count], index[:, :count]
    assert torch.equal(found.logits, value)
    assert torch.equal(found.labels, index % 4)
    assert torch.equal(found.anchors, anchors[index // 4])
    assert torch.equal(found.deltas[1], deltas[1, index[1] // 4])


@pytest.mark.parametrize("preset", [torchvision_retinanet(), detectron2_retinanet()])
def test_back_ends_agree(preset: dict[str, Any]) -> None:
    levels, size = features(2), torch.tensor([[64, 96], [40, 50]])
    made = head(**preset).eval()
    with torch.no_grad():
        found = []
        for backend in ("static", "ragged"):
            made.backend = backend  # type: ignore[assignment]
            found.append(made.predict(levels, size))
    assert found[0]["valid"].any(1).all()
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key])


def test_a_broken_image_does_not_touch_the_others() -> None:
    levels, size = features(2), torch.tensor([SIDES, SIDES])
    made = head().eval()
    with torch.no_grad():
        expected = made.predict(levels, size)
        levels["p4"][1, 0, 0, 0] = torch.nan
        found = made.predict(levels, size)
    for key in ("boxes", "scores", "labels", "valid"):
        torch.testing.assert_close(found[key][0], expected[key][0])
    assert found["boxes"][found["valid"]].isfinite().all()


def candidates(*boxes: list[float]) -> Candidates:
    """Boxes of one class by descending score, as anchors that do not move."""
    anchors = torch.tensor([boxes])
    logits = torch.linspace(2, 1, len(boxes))[None]
    return Candidates(logits, torch.zeros_like(logits).long(), torch.zeros_like(anchors), anchors)


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


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"sizes: expected one list per level \(p3, p4, p5, p6"):
        head(sizes=[[32], [64]])
