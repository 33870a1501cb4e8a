from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit.data import read_image
from densekit.data.reading.jpeg import decode_jpeg


def picture(height: int, width: int) -> np.ndarray:
    """Noise over a gradient: every coefficient of a block is used."""
    rng = np.random.default_rng(height)
    gradient = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return (gradient + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(48, 64), (37, 51), (1, 3)])
def test_values_are_those_of_pillow(tmp_path, size, subsampling, progressive):
    path = tmp_path / "x.jpg"
    options = {"subsampling": subsampling, "progressive": progressive, "quality": 70}
    Image.fromarray(picture(*size)).save(path, **options)
    decoded = decode_jpeg(path, 3)
    with Image.open(path) as image:
        np.testing.assert_array_equal(decoded, np.asarray(image))
    np.testing.assert_array_equal(read_image(path), decoded)


def test_grey_is_one_channel_and_a_cut_file_is_left_to_pillow(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(picture(40, 40)[..., 0]).save(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path, channels=1)[..., 0], np.asarray(image))
    path.write_bytes(path.read_bytes()[:-200])
    assert decode_jpeg(path, 1) is None
    with pytest.raises(ValueError, match=r"x\.jpg: expected a readable image, got .*truncated"):
        read_image(path, channels=1)
