from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from densekit.data import CocoDetection, read_image
from densekit.data.reading.images import ImageReader, stored_size


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
    with pytest.raises(ValueError, match=r"channels: expected .* from 1, got 0"):
        ImageReader(channels=0)
    with pytest.raises(ValueError, match=r"x\.png: expected \.tif.* 2 channels, got '\.png'"):
        read_image(tmp_path / "x.png", channels=2)


def test_sixteen_bits_are_refused_unless_declared(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 800
    Image.fromarray(values).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: expected 8 bits .* float32"):
        read_image(tmp_path / "x.png")
    kept = read_image(tmp_path / "x.png", channels=1, dtype="float32")
    np.testing.assert_array_equal(kept[:, :, 0], values)
    assert read_image(tmp_path / "x.png", dtype="float32").shape == (6, 8, 3)


PNG_KINDS = {2: 4, 3: 2, 4: 6}
"""Channels to the colour type of a PNG."""


def deep_png(values):
    """A PNG of 16 bits, written by the book: Pillow cannot, and OpenCV is what reads it."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, PNG_KINDS[channels], 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_keeps_its_low_byte(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 1 << 16, (40, 50, channels)).astype(np.uint16)
    (tmp_path / "ä.png").write_bytes(deep_png(values))
    kept = read_image(tmp_path / "ä.png", channels=channels, dtype="float32")
    np.testing.assert_array_equal(kept, values)
    assert stored_size(tmp_path / "ä.png") == (40, 50)
    with pytest.raises(ValueError, match=r"ä\.png: expected 8 bits .*;16B.* float32"):
        read_image(tmp_path / "ä.png", channels=channels)
    with pytest.raises(ValueError, match=f"expected 1 channel .*, got {channels}"):
        read_image(tmp_path / "ä.png", channels=1, dtype="float32")
    (tmp_path / "ä.png").write_bytes(deep_png(values)[:-3000])
    with pytest.raises(ValueError, match=r"ä\.png: expected a readable image"):
        read_image(tmp_path / "ä.png", channels=channels, dtype="float32")


def test_sixteen_bits_of_grey_with_alpha_or_a_transparent_colour(tmp_path):
    grey = np.full((6, 8, 2), 40000, dtype=np.uint16)
    (tmp_path / "grey.png").write_bytes(deep_png(grey))
    with pytest.raises(ValueError, match=r"grey\.png: expected PNG or TIFF .* got PNG of LA;16B"):
        read_image(tmp_path / "grey.png", dtype="float32")
    values = np.random.default_rng(0).integers(0, 1 << 16, (6, 8, 3)).astype(np.uint16)
    content = deep_png(values)
    transparent = struct.pack(">I4s3H", 6, b"tRNS", 1, 2, 3)
    transparent += struct.pack(">I", zlib.crc32(transparent[4:]))
    (tmp_path / "x.png").write_bytes(content[:33] + transparent + content[33:])
    kept = read_image(tmp_path / "x.png", dtype="float32")
    np.testing.assert_array_equal(kept, values)


def test_sixteen_bit_colour_is_turned_too_and_refused_of_other_formats(tmp_path):
    values = np.random.default_rng(0).integers(0, 1 << 16, (6, 8, 3)).astype(np.uint16)
    (tmp_path / "x.ppm").write_bytes(b"P6 8 6 65535\n" + values.astype(">u2").tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    content, block = deep_png(values), exif.tobytes()[6:]  # without the name that JPEG gives it
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    (tmp_path / "x.png").write_bytes(content[:33] + chunk + content[33:])
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.png", dtype="float32"), np.rot90(values, -1)
    )
    with pytest.raises(ValueError, match=r"x\.ppm: expected PNG or TIFF .* got PPM of RGB"):
        read_image(tmp_path / "x.ppm", dtype="float32")


def test_truncated_image_is_refused_with_its_path(tmp_path, write_image):
    for name in ("x.jpg", "x.png"):
        path = write_image(tmp_path / name, (200, 300))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        before = path.read_bytes()
        with pytest.raises(ValueError, match=rf"{name}: expected a readable image"):
            read_image(path)
        assert path.read_bytes() == before
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected a readable image"):
        read_image(path)
    with pytest.raises(ValueError, match="expected a readable image"):
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
    with pytest.raises(ValueError, match=r"0\.png: .*40 x 60, got 41 x 60"):
        CocoDetection(**arguments)[0]


def test_warned_once_for_all_workers(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "x.png")
    reader = ImageReader()
    assert reader._warned.is_shared()
    buffer = io.BytesIO()
    Image.fromarray(reader(tmp_path / "x.png")).save(buffer, "png")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_moving_pictures_the_first_is_read_with_one_warning(tmp_path, caplog, suffix):
    frames = [Image.new("RGB", (6, 4), (80 * n, 0, 0)) for n in range(3)]
    path = tmp_path / f"x.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    reader = ImageReader()
    with caplog.at_level(logging.WARNING, "densekit.data"):
        assert reader(path).max() == reader(path).max() == 0
    assert caplog.text.count("the first of 3 frames is read") == 1
