from __future__ import annotations

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from densekit.data import CocoDetection, read_image
from densekit.data.images import ImageReader, stored_size


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "LA", "1"])
def test_other_modes_are_converted_with_one_warning(tmp_path, caplog, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (8, 6)).save(path)
    reader = ImageReader()
    with caplog.at_level(logging.WARNING, "densekit.data"):
        first, _ = reader(path, (6, 8)), reader(path, (6, 8))
    assert first.shape == (6, 8, 3)
    assert first.dtype == np.uint8
    assert len(caplog.records) == 1
    assert mode in caplog.text


def test_declared_channels_are_given(tmp_path):
    Image.new("RGBA", (8, 6), (10, 20, 30, 40)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", channels=4)[0, 0].tolist() == [10, 20, 30, 40]
    assert read_image(tmp_path / "x.png", channels=1).shape == (6, 8, 1)
    with pytest.raises(ValueError, match=r"channels: .* 1 or more .* found 0"):
        ImageReader(channels=0)
    with pytest.raises(ValueError, match=r"x\.png: 2 channels are declared; .* \.tif"):
        read_image(tmp_path / "x.png", channels=2)


def test_sixteen_bits_are_refused_unless_declared(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 800
    Image.fromarray(values).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: more than 8 bits .* float32"):
        read_image(tmp_path / "x.png")
    kept = read_image(tmp_path / "x.png", channels=1, dtype="float32")
    np.testing.assert_array_equal(kept[:, :, 0], values)
    assert read_image(tmp_path / "x.png", dtype="float32").shape == (6, 8, 3)


def test_sixteen_bit_colour_is_never_cut_to_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((6, 8, 3), 40000, dtype=np.uint16))
    for dtype in ("uint8", "float32"):
        with pytest.raises(ValueError, match=r"x\.png: colour with 16 bits"):
            read_image(tmp_path / "x.png", dtype=dtype)


def test_truncated_image_is_refused_with_its_path(tmp_path, write_image):
    for name in ("x.jpg", "x.png"):
        path = write_image(tmp_path / name, (200, 300))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        before = path.read_bytes()
        with pytest.raises(ValueError, match=rf"{name}: not a readable image"):
            read_image(path)
        assert path.read_bytes() == before
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not a readable image"):
        read_image(path)
    with pytest.raises(ValueError, match="not a readable image"):
        stored_size(path)


def _with_orientation(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:10, :10] = 255  # the stored upper left corner is white
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def test_orientation_fits_the_annotated_size(tmp_path, caplog):
    path = tmp_path / "x.jpg"
    _with_orientation(path, 6)
    reader = ImageReader()
    with caplog.at_level(logging.WARNING, "densekit.data"):
        turned, stored = reader(path, (40, 20)), reader(path, (20, 40))
    assert turned.shape == (40, 20, 3)
    assert turned[2, -2, 0] > 200  # turned clockwise by 90 degrees
    assert stored.shape == (20, 40, 3)
    assert stored[2, 2, 0] > 200
    assert len(caplog.records) == 1
    assert read_image(path).shape == (40, 20, 3)
    assert stored_size(path) == (40, 20)


def test_orientation_that_keeps_the_size_is_applied(tmp_path):
    path = tmp_path / "x.jpg"
    _with_orientation(path, 3)
    assert read_image(path)[-2, -2, 0] > 200


def test_size_that_fits_no_orientation_is_refused(coco, write_image):
    arguments = coco([{}])
    write_image(arguments["root"] / "images/0.png", (41, 60))
    with pytest.raises(ValueError, match=r"0\.png: .*41 x 60.*40 x 60"):
        CocoDetection(**arguments)[0]


def test_warned_once_for_all_workers(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "x.png")
    reader = ImageReader()
    assert reader._warned.is_shared()
    buffer = io.BytesIO()
    Image.fromarray(reader(tmp_path / "x.png")).save(buffer, "png")
