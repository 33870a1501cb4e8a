from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit.visualization.images import save_picture, to_grey, to_rgb


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4), (9, 7, 12)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_image_becomes_rgb(shape, dtype):
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    rgb = to_rgb(image)
    assert rgb.shape == (9, 7, 3)
    assert rgb.dtype == np.uint8
    if dtype is np.uint8:
        np.testing.assert_array_equal(rgb[..., 0], image.reshape(9, 7, -1)[..., 0])
    else:
        assert rgb.max() == 255
        assert rgb.min() == 0


def test_constant_float_images_do_not_divide_by_zero():
    assert to_rgb(np.full((4, 4, 3), 7.0)).max() == 0


def test_save_makes_the_folder_and_keeps_the_pixels(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    save_picture(image, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


def test_grey_of_a_volume_is_stretched_as_a_whole():
    volume = np.linspace(-500, 500, 1000).reshape(10, 10, 10)
    scaled = to_grey(volume)
    assert scaled.min() == 0
    assert scaled.max() == 255
    assert scaled[0].max() < scaled[9].min()
    assert not to_grey(np.full((2, 2, 2), 7.0)).any()
