"""The path aggregation network: its levels by hand, in any dimension; what is read is built."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densekit.necks import PAFPN
from tests.unit.necks.test_fpn import STRIDES, maps, specs


def test_the_way_up_by_hand() -> None:
    neck = PAFPN(specs(), ["p3", "p4", "p5"], out_channels=8, norm=None).double()
    features = {level: x.double() for level, x in maps(specs()).items()}
    found, pyramid = neck(features), neck.pyramid(features)
    assert neck.path == ("p3", "p4", "p5")
    expected = pyramid["p3"]
    torch.testing.assert_close(found["p3"], expected)
    for level in ("p4", "p5"):
        up, output = neck.up[level][0], neck.output[level][0]
        below = F.conv2d(expected, up.weight, up.bias, stride=2, padding=1)
        expected = F.conv2d(below.relu() + pyramid[level], output.weight, output.bias, padding=1)
        expected = expected.relu()
        torch.testing.assert_close(found[level], expected)
    assert found.keys() == {*features, "p3", "p4", "p5"}


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize("strides", [STRIDES, (1, 2, 4, 8, 16, 16)])
def test_specs_are_the_shapes_of_a_forward(spatial_dims: int, strides: tuple[int, ...]) -> None:
    given = specs(spatial_dims, strides)
    pyramid = PAFPN(given, out_channels=8).specs
    assert list(pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    found = PAFPN(given, pyramid, out_channels=8)(maps(given))
    for level, spec in pyramid.items():
        sides = [-(-70 // step) for step in spec.stride]
        assert list(found[level].shape) == [2, spec.channels, *sides]


def test_it_begins_at_the_finest_level_that_is_read() -> None:
    neck = PAFPN(specs(), ["p4", "p6"], out_channels=8, extra="conv_backbone")
    assert (neck.path, neck.levels) == (("p4", "p5", "p6"), ("p4", "p6"))
    assert neck.reads == ("c4", "c5")
    found = neck({level: x for level, x in maps(specs()).items() if level in neck.reads})
    assert list(found) == ["c4", "c5", "p4", "p6"]
    sum(found[level].sum() for level in neck.levels).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())
