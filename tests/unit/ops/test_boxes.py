"""Box arithmetic against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.ops import box_iou as torchvision_iou
from torchvision.ops import clip_boxes_to_image

from densekit.ops.boxes import (
    MAX_LOG_SCALE,
    DeltaWeights,
    at_least,
    box_area,
    box_iou,
    centerness,
    clip_boxes,
    decode_boxes,
    decode_sides,
    encode_boxes,
    encode_sides,
    intersection,
)

WEIGHTS: list[DeltaWeights] = [(1, 1, 1, 1), (10.0, 10.0, 5.0, 5.0)]


def some_boxes(*shape: int, side: float = 100) -> Tensor:
    corner = torch.rand(*shape, 2) * side
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2) * side], -1)


def test_iou_equals_torchvision() -> None:
    a, b = some_boxes(3, 5), some_boxes(3, 7)
    found = box_iou(a, b)
    for image in range(3):
        assert torch.equal(found[image], torchvision_iou(a[image], b[image]))


def test_iou_of_a_box_with_itself_and_with_one_that_touches_it() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 1, 2]])
    expected = torch.tensor([[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]])
    assert torch.equal(box_iou(boxes, boxes), expected)
    assert box_area(boxes).tolist() == [4, 4, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16, torch.uint8])
def test_areas_of_short_numbers_do_not_overflow(dtype: torch.dtype) -> None:
    side = 200 if dtype == torch.uint8 else 1000
    boxes = torch.tensor([[0, 0, side, side], [0, 0, side, side // 2]]).to(dtype)
    precise = boxes.double()
    assert box_area(boxes).tolist() == box_area(precise).tolist()
    assert intersection(boxes, boxes).tolist() == intersection(precise, precise).tolist()
    torch.testing.assert_close(box_iou(boxes, boxes).double(), box_iou(precise, precise))
    assert at_least(boxes, 1).all()


def test_clips_each_image_to_its_own_size() -> None:
    boxes = some_boxes(2, 3, 4) - 50
    size = torch.tensor([[40, 60], [30, 20]])
    found = clip_boxes(boxes, size)
    for image, (height, width) in enumerate(size.tolist()):
        expected = clip_boxes_to_image(boxes[image].flatten(0, 1), (height, width))
        assert torch.equal(found[image].flatten(0, 1), expected)


def test_at_least_counts_the_side_itself() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [0, 0, 1.9, 2], [2, 2, 0, 0]])
    assert at_least(boxes, 2).tolist() == [True, False, False, False]


def test_at_least_wants_an_area_and_numbers() -> None:
    nan = float("nan")
    boxes = torch.tensor(
        [[1.0, 1, 1, 3], [1, 1, 3, 1], [1, 1, 1, 1], [1, 1, 1 + 1e-6, 2], [nan] * 4]
    )
    assert at_least(boxes, 0).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decode_undoes_encode(weights: DeltaWeights) -> None:
    gt, anchors = some_boxes(2, 9).double(), some_boxes(2, 9).double()
    deltas = encode_boxes(gt, anchors, weights)
    torch.testing.assert_close(decode_boxes(deltas, anchors, weights), gt)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_coding_equals_torchvision(weights: DeltaWeights) -> None:
    coder = BoxCoder(weights)
    gt, anchors = some_boxes(9), some_boxes(9)
    torch.testing.assert_close(
        encode_boxes(gt, anchors, weights), coder.encode_single(gt, anchors), rtol=1e-6, atol=1e-5
    )
    deltas = torch.randn(9, 4)
    expected = coder.decode_single(deltas, anchors)
    torch.testing.assert_close(decode_boxes(deltas, anchors, weights), expected)


def test_decoding_stays_finite_and_float32() -> None:
    deltas = torch.full((1, 4), 1e4, dtype=torch.bfloat16)
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    found = decode_boxes(deltas, anchor)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    side = 16 * torch.tensor(MAX_LOG_SCALE).exp()
    torch.testing.assert_close(found[0, 2] - found[0, 0], side)


def test_sides_equal_torchvision() -> None:
    gt, anchors = some_boxes(3, 5), some_boxes(3, 5)
    coder = BoxLinearCoder(normalize_by_size=True)
    torch.testing.assert_close(encode_sides(gt, anchors), coder.encode(anchors, gt))
    sides = encode_sides(gt, anchors)
    torch.testing.assert_close(decode_sides(sides, anchors), coder.decode(sides, anchors))
    torch.testing.assert_close(decode_sides(sides, anchors), gt, rtol=1e-4, atol=1e-3)


def test_centerness() -> None:
    """A centre of 1 : 3 and 1 : 4 has sqrt(1 / 12); the middle has 1."""
    gt = torch.tensor([[0.0, 0, 40, 50]])
    points = torch.tensor([[8.0, 8, 12, 12], [16, 21, 24, 29]])
    torch.testing.assert_close(centerness(gt, points), torch.tensor([(1 / 12) ** 0.5, 1.0]))
