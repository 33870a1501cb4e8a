"""RoIAlign over a pyramid equals torchvision's, level by level, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from densekit.ops.roi import (
    assign_levels,
    image_of_boxes,
    pyramid_table,
    roi_align_by_level,
    roi_align_pyramid,
)

STRIDES = ((4, 4), (8, 8), (16, 16))
HEIGHT, WIDTH = 40, 56


def levels(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Two images, five channels, sides that the strides do not divide."""
    return [
        torch.randn(2, 5, -(-HEIGHT // y), -(-WIDTH // x), dtype=dtype, requires_grad=True)
        for y, x in STRIDES
    ]


def inside(count: int) -> Tensor:
    x = torch.rand(count, 2).sort().values * WIDTH
    y = torch.rand(count, 2).sort().values * HEIGHT
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


ROIS = {
    "inside": inside(30),
    "whole": torch.tensor([[0.0, 0, WIDTH, HEIGHT]]),
    "beyond": torch.tensor([[-30.0, -20, 20, 10], [30, 20, 99, 88], [-50, -50, 120, 120]]),
    "outside": torch.tensor([[-90.0, -90, -60, -60], [80, 70, 120, 99]]),
    "tiny": torch.tensor([[3.0, 5, 3.2, 5.1], [0, 0, 1e-3, 1e-3], [20, 20, 20, 20]]),
    "far edge": torch.tensor(
        [
            [WIDTH - 0.5, HEIGHT - 0.5, WIDTH, HEIGHT],
            [WIDTH, HEIGHT, WIDTH, HEIGHT],
            [WIDTH - 9.0, 0, WIDTH, 3],
            [0, HEIGHT - 7.0, 5, HEIGHT],
        ]
    ),
}


def flat(boxes: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, their images and their levels, of all images in one."""
    return boxes.flatten(0, 1), image_of_boxes(boxes), level.flatten()


def torchvision_pyramid(
    maps: list[Tensor], boxes: Tensor, level: Tensor, output: int, samples: int, aligned: bool
) -> Tensor:
    """(B * R, o, o, C)."""
    image = torch.arange(len(boxes))[:, None, None].expand(*boxes.shape[:2], 1)
    rois = torch.cat([image.to(boxes.dtype), boxes], -1).flatten(0, 1)
    choices = [
        roi_align(x, rois, output, 1 / stride[0], samples, aligned)
        for x, stride in zip(maps, STRIDES, strict=True)
    ]
    rows = torch.arange(len(rois))
    return torch.stack(choices)[level.flatten(), rows].permute(0, 2, 3, 1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("output", "samples"), [(7, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("name", ROIS)
def test_equals_torchvision(name: str, output: int, samples: int, aligned: bool) -> None:
    boxes = torch.stack([ROIS[name], ROIS[name].flip(0)]).double()
    level = torch.arange(boxes[..., 0].numel()).view(boxes.shape[:2]) % len(STRIDES)
    ours, theirs = levels(), levels()
    for a, b in zip(ours, theirs, strict=True):
        b.data.copy_(a.data)
    found = roi_align_pyramid(
        pyramid_table(ours), *flat(boxes, level), STRIDES, output, samples, aligned
    )
    expected = torchvision_pyramid(theirs, boxes, level, output, samples, aligned)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(expected)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("aligned", [False, True])
def test_adaptive_equals_torchvision(aligned: bool) -> None:
    boxes = torch.stack([ROIS["inside"], ROIS["inside"].flip(0)])
    maps = [x.detach() for x in levels(torch.float32)]
    level = assign_levels(boxes, 2, 4, canonical_size=24)
    assert set(level.flatten().tolist()) == {0, 1, 2}
    pooled, place = roi_align_by_level(maps, *flat(boxes, level), STRIDES, 7, 0, aligned)
    found = pooled[place]
    expected = torchvision_pyramid(maps, boxes, level, 7, -1, aligned)
    torch.testing.assert_close(found, expected)


def test_adaptive_has_a_gradient() -> None:
    maps = levels(torch.float32)
    boxes = ROIS["inside"][None].expand(2, -1, -1)
    level = torch.zeros(boxes.shape[:2], dtype=torch.int64)
    roi_align_by_level(maps, *flat(boxes, level), STRIDES)[0].sum().backward()
    assert maps[0].grad is not None
    assert maps[0].grad.abs().sum() > 0


def test_levels_equal_torchvision() -> None:
    boxes = inside(500) * 12
    boxes[0] = torch.tensor([0.0, 0, 224, 224])
    boxes[1] = torch.tensor([0.0, 0, 112, 112])
    expected = LevelMapper(2, 5)([boxes])
    assert torch.equal(assign_levels(boxes, 2, 5), expected)
    assert assign_levels(boxes[:2], 2, 5).tolist() == [2, 1]


def test_boxes_without_area_go_to_the_lowest_level() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 4, 9]])
    assert assign_levels(boxes, 3, 5).tolist() == [0, 0]


def test_a_stride_for_each_axis() -> None:
    """A map twice as fine along x, pooled from boxes twice as wide."""
    x = torch.randn(1, 2, 10, 20, dtype=torch.float64)
    boxes = torch.tensor([[[4.0, 3, 17, 31]]], dtype=torch.float64)
    level = torch.zeros(1, 1, dtype=torch.int64)
    found = roi_align_pyramid(pyramid_table([x]), *flat(boxes, level), [(4, 2)])
    wide = boxes[0] * torch.tensor([2.0, 1, 2, 1], dtype=torch.float64)
    expected = roi_align(x, [wide], 7, 1 / 4, 2)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1))


def test_no_boxes() -> None:
    found = roi_align_pyramid(
        pyramid_table(levels()), *flat(torch.zeros(2, 0, 4), torch.zeros(2, 0).long()), STRIDES
    )
    assert found.shape == (0, 7, 7, 5)


def test_table_rows_are_cells() -> None:
    maps = levels()
    table = pyramid_table(maps)
    cell = table.starts()[1] + 1 * table.grids[1][0] * table.grids[1][1] + 2 * table.grids[1][1] + 3
    assert torch.equal(table.rows[cell], maps[1][1, :, 2, 3])
