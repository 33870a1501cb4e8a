"""Labels in another size, by the nearest centre."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densekit.ops.interpolation import nearest_centres, resize_labels, resize_linear


@pytest.mark.parametrize(
    ("new", "old", "index"),
    [(8, 4, [0, 0, 1, 1, 2, 2, 3, 3]), (2, 4, [1, 3]), (3, 5, [0, 2, 4]), (4, 4, [0, 1, 2, 3])],
)
def test_each_new_pixel_takes_the_one_under_its_centre(new, old, index):
    assert nearest_centres(new, old).tolist() == index


@pytest.mark.parametrize("sides", [(4, 6), (3, 5), (16, 9)])
def test_labels_are_resized_as_torch_does(sides):
    mask = torch.randint(0, 9, (2, 8, 12), generator=torch.Generator().manual_seed(0))
    found = resize_labels(mask, sides)
    expected = F.interpolate(mask[None].float(), sides, mode="nearest-exact")[0].long()
    assert torch.equal(found, expected)
    assert resize_labels(mask[:, None], sides).shape == (2, 1, *sides)


def test_no_index_is_beyond_the_axis():
    for new in range(1, 60):
        for old in range(1, 60):
            index = nearest_centres(new, old)
            assert index.min() >= 0
            assert index.max() < old


@pytest.mark.parametrize("mode", ["linear", "bilinear", "trilinear"])
def test_maps_of_each_dimension_are_interpolated_linearly(mode):
    dims = ["linear", "bilinear", "trilinear"].index(mode) + 1
    maps = torch.rand((2, 3, *[4, 6, 5][:dims]), generator=torch.Generator().manual_seed(0))
    sides = [7, 3, 9][:dims]
    for aligned in (False, True):
        expected = F.interpolate(maps, sides, mode=mode, align_corners=aligned)
        assert torch.equal(resize_linear(maps, sides, align_corners=aligned), expected)
