"""Windows around what is not zero resize as whole planes do."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data.transforms.nearest import resize_planes
from densekit.ops.interpolation import nearest_centres


@pytest.mark.parametrize("size", [(31, 47), (64, 20), (9, 8), (1, 1), (40, 60)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_pixel_is_the_nearest_centre(size: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    planes = np.zeros((4, 2, 40, 60), dtype)
    planes[0, 0, 5:17, 30:52] = rng.integers(0, 2, (12, 22))
    planes[1, 1, 39, 59], planes[2, 0], planes[2, 1, 0, 0] = 1, 255, 7
    rows, columns = (nearest_centres(*sides).numpy() for sides in zip(size, (40, 60), strict=True))
    expected = planes[..., rows[:, None], columns]
    for given in (planes, np.asfortranarray(planes)):
        assert (resize_planes(given, size) == expected).all()
    flipped = resize_planes(planes[..., ::-1], size)
    assert (flipped == planes[..., ::-1][..., rows[:, None], columns]).all()
    assert resize_planes(planes[0, 0], size).dtype == dtype
    assert resize_planes(planes[:0], size).shape == (0, 2, *size)
