"""Default boxes: the published ones, and torchvision's of SSD300."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from densekit.ops.default_boxes import (
    default_boxes,
    published_ratios,
    published_sizes,
    sides_of_cell,
)

GRIDS = (38, 19, 10, 5, 3, 1)
STRIDES = (8, 16, 32, 64, 100, 300)


def test_published_numbers() -> None:
    assert published_sizes(6, 300) == [30, 60, 111, 162, 213, 264, 315]
    assert published_ratios(6) == [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    made = [len(sides_of_cell(1, 2, ratios)) for ratios in published_ratios(6)]
    assert sum(a * n * n for a, n in zip(made, GRIDS, strict=True)) == 8732


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_few_levels(levels: int) -> None:
    sizes = published_sizes(levels, 100)
    assert sizes == sorted(set(sizes))
    assert (len(sizes), len(published_ratios(levels))) == (levels + 1, levels)


def test_boxes_are_torchvisions() -> None:
    scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    theirs = DefaultBoxGenerator(ratios, scales=scales, steps=list(STRIDES), clip=False)
    levels = [torch.zeros(1, 1, n, n) for n in GRIDS]
    (expected,) = theirs(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), levels)

    sizes = [300 * scale for scale in scales]
    sides = tuple(map(sides_of_cell, sizes, sizes[1:], ratios))
    grids, strides = (tuple((n, n) for n in values) for values in (GRIDS, STRIDES))
    found = default_boxes(grids, strides, sides, torch.device("cpu"))

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
