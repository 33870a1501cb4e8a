"""ATSS: its losses, anchor by anchor as the authors and mmdetection define them; its sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from densekit.heads import ATSS
from densekit.ops.adaptive_matching import match_adaptively
from densekit.ops.boxes import decode_boxes
from tests.unit.heads.one_stage_cases import features, one_stage
from tests.unit.tiny import targets


def test_losses_by_hand() -> None:
    made, levels, batch = one_stage(ATSS), features(2), targets([3, 2])
    with torch.no_grad():
        made.scales.copy_(torch.linspace(0.5, 1.5, 5))
        read = made.levels(levels)
        each = [level.anchors for level in read]
        logits, deltas, central = (
            torch.cat(part, 1) for part in zip(*map(made.dense, read), strict=True)
        )
    index, label = match_adaptively(batch["boxes"], batch["boxes_valid"], each, made.matching)
    anchors, one_hot = torch.cat(each), torch.zeros_like(logits)
    box = centre = weights = torch.zeros(())
    for image, anchor in (label == 1).nonzero().tolist():
        target = index[image, anchor]
        gt = batch["boxes"][image, target]
        one_hot[image, anchor, batch["labels"][image, target]] = 1
        x, y = (anchors[anchor, :2] + anchors[anchor, 2:]) / 2
        sides = [(x - gt[0], gt[2] - x), (y - gt[1], gt[3] - y)]
        expected = torch.stack([min(pair) / max(pair) for pair in sides]).prod().sqrt()
        pred = decode_boxes(deltas[image, anchor], anchors[anchor], (10, 10, 5, 5))
        box = box + generalized_box_iou_loss(pred, gt) * expected
        centre = centre + F.binary_cross_entropy_with_logits(central[image, anchor, 0], expected)
        weights = weights + expected
    count = (label == 1).sum()
    assert count > 5

    found = made.loss(levels, batch)

    cls = sigmoid_focal_loss(logits, one_hot, reduction="sum") / count
    for name, value in {"cls": cls, "box": 2 * box / weights, "centerness": centre / count}.items():
        torch.testing.assert_close(found[name], value)


def test_a_level_has_a_scale_of_its_own() -> None:
    made, levels = one_stage(ATSS), features(1)
    read = made.levels(levels)
    before = [made.dense(level)[1] for level in read]
    with torch.no_grad():
        made.scales[1] = 3
    after = [made.dense(level)[1] for level in read]
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        torch.testing.assert_close(other, one * (3 if number == 1 else 1))


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"sizes: expected one list per level \(p3, p4, p5, p6"):
        one_stage(ATSS, sizes=[32, 64])
