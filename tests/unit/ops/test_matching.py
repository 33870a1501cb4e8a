"""Matching equals torchvision's Matcher image by image, in chunks or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from densekit.ops import matching
from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE, MatchRule, covered, match

RULES = [
    MatchRule(0.5, 0.5),
    MatchRule(0.7, 0.3),
    MatchRule(0.7, 0.3, low_quality=True),
    MatchRule(0.5, 0.5, low_quality=True),
]


def grid_boxes(*shape: int) -> Tensor:
    """On whole pixels, so that many overlaps tie."""
    corner = torch.randint(0, 12, (*shape, 2))
    return torch.cat([corner, corner + torch.randint(2, 9, (*shape, 2))], -1).float()


def problem(images: int = 3, slots: int = 8, count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Objects, of which each touches a box, which of them are valid, and boxes."""
    boxes = grid_boxes(images, count)
    gt = boxes[:, :slots] + torch.tensor([0.0, 0, 1, 1])
    valid = torch.arange(slots) < torch.tensor([slots, 3, 1])[:images, None]
    return gt, valid, boxes


def torchvision_match(gt: Tensor, boxes: Tensor, rule: MatchRule) -> Tensor:
    matcher = Matcher(rule.positive_iou, rule.negative_iou, rule.low_quality)
    return matcher(box_iou(gt, boxes))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("elements", [1, 3 * 60 * 3, 1 << 25])
def test_equals_torchvision(
    rule: MatchRule, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", elements)
    gt, valid, boxes = problem()
    index, label = match(gt, valid, boxes, rule)
    for image in range(len(gt)):
        expected = torchvision_match(gt[image][valid[image]], boxes[image], rule)
        positive = expected >= 0
        assert torch.equal(label[image] == POSITIVE, positive)
        assert torch.equal(label[image] == NEGATIVE, expected == Matcher.BELOW_LOW_THRESHOLD)
        assert torch.equal(label[image] == IGNORED, expected == Matcher.BETWEEN_THRESHOLDS)
        assert torch.equal(index[image][positive], expected[positive])
    assert (label == POSITIVE).any()
    assert (label == NEGATIVE).any()


def test_boxes_of_all_images_may_be_the_same() -> None:
    gt, valid, boxes = problem()
    rule = RULES[2]
    shared = match(gt, valid, boxes[0], rule)
    repeated = match(gt, valid, boxes[:1].repeat(3, 1, 1), rule)
    assert all(torch.equal(a, b) for a, b in zip(shared, repeated, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_padding_changes_nothing(rule: MatchRule) -> None:
    gt, valid, boxes = problem()
    gt, valid = gt[1:2], valid[1:2]
    padded = match(gt, valid, boxes[1:2], rule)
    bare = match(gt[:, :3], valid[:, :3], boxes[1:2], rule)
    assert all(torch.equal(a, b) for a, b in zip(padded, bare, strict=True))


@pytest.mark.parametrize("slots", [0, 4])
@pytest.mark.parametrize("rule", RULES)
def test_without_objects_everything_is_background(rule: MatchRule, slots: int) -> None:
    empty = torch.zeros(2, slots, 4), torch.zeros(2, slots, dtype=torch.bool)
    index, label = match(*empty, grid_boxes(2, 20), rule)
    assert (label == NEGATIVE).all()
    assert (index == 0).all()
    assert (index.dtype, label.dtype) == (torch.int64, torch.int8)


def test_an_object_that_no_box_touches_claims_none() -> None:
    gt = torch.tensor([[[100.0, 100, 110, 110]]])
    _, label = match(gt, torch.ones(1, 1, dtype=torch.bool), grid_boxes(1, 20), RULES[2])
    assert (label == NEGATIVE).all()


def test_boxes_without_area_are_background() -> None:
    gt, valid, boxes = problem()
    _, label = match(gt, valid, boxes * 0, MatchRule(0.5, 0.5))
    assert (label == NEGATIVE).all()


@pytest.mark.parametrize("elements", [1, 1 << 25])
def test_covered_by_more_than_half(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CHUNK_ELEMENTS", elements)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 10], [9, 0, 19, 10], [50, 50, 60, 60]])
    regions = torch.tensor([[[0.0, 0, 5, 10], [8, 0, 30, 30], [40, 40, 70, 70]]])
    valid = torch.tensor([[True, True, False]])
    assert covered(boxes, regions, valid).tolist() == [[False, True, True, False]]
    assert covered(boxes, regions, valid, share=0.4).tolist() == [[True, True, True, False]]
