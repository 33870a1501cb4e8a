"""Planes and COCO's run lengths are two forms of the same masks."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.ops.run_lengths import decode, encode


@pytest.mark.parametrize("count", [0, 1, 3])
def test_planes_come_back(count: int) -> None:
    planes = np.random.default_rng(0).random((count, 7, 5)) > 0.5
    masks = encode(planes)
    assert [mask["size"] for mask in masks] == [[7, 5]] * count
    assert all(isinstance(mask["counts"], bytes) for mask in masks)
    assert (decode(masks, (7, 5)) == planes).all()
    assert decode(masks, (7, 5)).shape == planes.shape
