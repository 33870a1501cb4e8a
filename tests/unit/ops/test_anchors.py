"""Anchors are torchvision's, or exact."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from densekit.ops.anchors import cell_anchors, pyramid_anchors

CPU = torch.device("cpu")
GRIDS = ((7, 9), (4, 5), (1, 1))
PADDED = (56, 72)


@pytest.mark.parametrize("sizes", [((32.0,), (64.0,), (128.0,)), ((8.0, 11.0),) * 3])
@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 1.0, 2.0)])
def test_equals_torchvision(
    sizes: tuple[tuple[float, ...], ...], ratios: tuple[float, ...]
) -> None:
    generator = AnchorGenerator(sizes, (ratios,) * len(sizes))
    images = ImageList(torch.zeros(1, 3, *PADDED), [PADDED])
    expected = generator(images, [torch.zeros(1, 2, *grid) for grid in GRIDS])[0]
    strides = tuple((PADDED[0] // rows, PADDED[1] // columns) for rows, columns in GRIDS)
    assert torch.equal(pyramid_anchors(GRIDS, strides, sizes, ratios, True, CPU), expected)


def test_exact_anchors_have_their_area_and_ratio() -> None:
    anchors = cell_anchors((10.0, 20.0), (0.5, 2.0), rounded=False)
    side = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(side.prod(1), torch.tensor([100.0, 400.0] * 2))
    torch.testing.assert_close(side[:, 1] / side[:, 0], torch.tensor([0.5, 0.5, 2.0, 2.0]))
    torch.testing.assert_close(anchors[:, :2], -anchors[:, 2:])


def test_a_stride_for_each_axis() -> None:
    grid = ((2, 3),)
    anchors = pyramid_anchors(grid, ((4, 8),), ((2.0,),), (1.0,), True, CPU)
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centre.tolist() == [[0, 0], [8, 0], [16, 0], [0, 4], [8, 4], [16, 4]]


def test_one_tensor_for_equal_shapes() -> None:
    arguments = (GRIDS, ((8, 8), (16, 16), (32, 32)), ((8.0,),) * 3, (1.0,), True, CPU)
    assert pyramid_anchors(*arguments) is pyramid_anchors(*arguments)
