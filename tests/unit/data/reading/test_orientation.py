"""Which way up: one rule, for every format, orientation and annotated size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from densekit.data.reading.images import ImageReader, possible_sizes, read_image
from densekit.data.reading.orientation import TAG, turned, unturned

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


def write(path, orientation, pixels=PIXELS):
    """The file, and its pixels as stored and as a viewer turns them."""
    exif = Image.Exif()
    exif[TAG] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(pixels).save(path, exif=exif, **lossless)
    plain = path.with_stem("plain")
    Image.fromarray(pixels).save(plain, **lossless)
    stored = Image.open(plain).convert("RGB")
    stored.getexif()[TAG] = orientation
    return np.asarray(stored), np.asarray(ImageOps.exif_transpose(stored))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_annotated_size_decides(tmp_path, suffix, orientation):
    path = tmp_path / f"x{suffix}"
    stored, upright = write(path, orientation)
    sizes = upright.shape[:2], stored.shape[:2]
    assert possible_sizes(path) == sizes
    reader = ImageReader()
    np.testing.assert_array_equal(reader(path), upright)
    np.testing.assert_array_equal(reader(path, sizes[0]), upright)
    as_stored = stored if sizes[0] != sizes[1] else upright  # both fit: as without a size
    np.testing.assert_array_equal(reader(path, sizes[1]), as_stored)
    with pytest.raises(ValueError, match=r"annotated height x width 5 x 5"):
        reader(path, (5, 5))


@pytest.mark.parametrize("orientation", [3, 6])
def test_square_images_are_turned_with_and_without_a_size(tmp_path, orientation):
    _, upright = write(tmp_path / "x.png", orientation, PIXELS[:, :6])
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), upright)
    np.testing.assert_array_equal(ImageReader()(tmp_path / "x.png", (6, 6)), upright)


def test_turning_back_is_the_inverse():
    for orientation in range(1, 9):
        back = unturned(turned(PIXELS, orientation), orientation)
        np.testing.assert_array_equal(back, PIXELS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("block", [b"not a header at all", b"II*\0\xff\xff\xff\xff"])
def test_a_broken_exif_block_is_no_orientation(tmp_path, block):
    path = Path(tmp_path / "x.jpg")
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + block, dpi=(72, 72))
    assert read_image(path).shape == PIXELS.shape
    assert possible_sizes(path) == ((6, 9), (6, 9))
