from __future__ import annotations

import numpy as np
import pytest

from densekit.visualization.planes import as_picture, evenly_spread_slices


@pytest.mark.parametrize("shape", [(50, 1), (50, 4), (20, 30, 3), (8, 20, 30, 1)])
def test_images_of_any_dimension_are_drawn(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    picture = as_picture(image)
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
    assert picture.std() > 0


def test_slices_are_spread_over_those_that_hold_a_class() -> None:
    mask = np.zeros((40, 2, 2), np.uint8)
    assert len(evenly_spread_slices(mask, [1], 12)) == 12
    mask[[3, 9, 30]] = 1
    mask[5] = 255
    assert evenly_spread_slices(mask, [1], 12) == [3, 9, 30]
    assert evenly_spread_slices(np.stack([mask * 0, mask]), [1], 12) == [3, 9, 30]
