"""Numbers of odd depths: masks are what the file stores, images as declared."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from densekit.data import MaskFolder, read_image
from densekit.data.reading.bit_depths import find_rescaling
from densekit.data.reading.images import ImageReader
from densekit.data.reading.stored_values import stored_colours, stored_values

STORED = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 3, 3]], dtype=np.uint8)


def packed(values, bits):
    """Rows of `bits` a number, each filled up to whole bytes."""
    planes = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - bits :]
    return [row.tobytes() for row in np.packbits(planes.reshape(len(values), -1), axis=1)]


def png(rows, width, bits, kind=0, extra=b""):
    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", head), extra, chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk_of(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def tiff(rows, width, bits, photometric):
    """One strip, uncompressed."""
    body = b"".join(rows)
    tags = {256: width, 257: len(rows), 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: len(rows), 279: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    place = 8 + len(body) + len(body) % 2
    padded = body + b"\0" * (len(body) % 2)
    return (
        b"II*\0"
        + struct.pack("<I", place)
        + padded
        + struct.pack("<H", len(tags))
        + entries
        + (b"\0" * 4)
    )


def jpeg2000(values, bits):
    """Lossless; the precision is written over, as Pillow only makes 8 and 16."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", irreversible=False)
    content = bytearray(stream.getvalue())
    place = content.find(b"\xff\x4f\xff\x51") + 42
    assert content[place] in (7, 15)
    return bytes(content[:place]) + bytes([bits - 1]) + bytes(content[place + 1 :])


PALETTE = chunk_of(b"PLTE", bytes(range(48))) + chunk_of(b"tRNS", bytes([0, 128, 255]))
SIGNIFICANT = chunk_of(b"sBIT", b"\x02") + chunk_of(b"gAMA", struct.pack(">I", 45455))

FILES = {
    "grey2.png": png(packed(STORED, 2), 4, 2),
    "grey4.png": png(packed(STORED, 4), 4, 4),
    "grey8.png": png(packed(STORED, 8), 4, 8, extra=SIGNIFICANT),
    "grey2_gamma.png": png(packed(STORED, 2), 4, 2, extra=SIGNIFICANT),
    "palette2.png": png(packed(STORED, 2), 4, 2, 3, PALETTE),
    "palette4.png": png(packed(STORED, 4), 4, 4, 3, PALETTE),
    "alpha16.png": png(
        [np.stack([row, row + 9], -1).astype(">u2").tobytes() for row in STORED], 4, 16, 4
    ),
    "rgb16.png": png([np.repeat(row, 3).astype(">u2").tobytes() for row in STORED], 4, 16, 2),
    "grey2.tif": tiff(packed(STORED, 2), 4, 2, 1),
    "grey4.tif": tiff(packed(STORED, 4), 4, 4, 1),
    "white_is_zero2.tif": tiff(packed(STORED, 2), 4, 2, 0),
    "white_is_zero8.tif": tiff(packed(STORED, 8), 4, 8, 0),
    "maxval3.pgm": b"P5 4 3 3\n" + STORED.tobytes(),
    "maxval20.pgm": b"P5 4 3 20\n" + STORED.tobytes(),
    "plain.pgm": b"P2 4 3 3\n" + b" ".join(b"%d" % v for v in STORED.ravel()) + b"\n",
    "maxval1000.pgm": b"P5 4 3 1000\n" + STORED.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("name", FILES)
def test_masks_are_what_the_file_stores(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    found = stored_values(tmp_path / name)
    np.testing.assert_array_equal(found, STORED)
    assert np.issubdtype(found.dtype, np.integer)


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 15, 100, 254, 255, 256, 1000, 4095, 65534, 65535])
def test_every_number_of_a_pgm_comes_back(tmp_path, largest):
    values = np.arange(largest + 1)
    kind = ">u2" if largest > 255 else "u1"
    head = b"P5 %d 1 %d\n" % (len(values), largest)
    (tmp_path / "x.pgm").write_bytes(head + values.astype(kind).tobytes())
    np.testing.assert_array_equal(stored_values(tmp_path / "x.pgm")[0], values)
    kept = read_image(tmp_path / "x.pgm", channels=1, dtype="float32")
    np.testing.assert_array_equal(kept[0, :, 0], values)


@pytest.mark.parametrize(("bits", "kind"), [(4, np.uint8), (12, np.uint16), (15, np.uint16)])
def test_jpeg_2000_of_any_precision_is_not_shifted(tmp_path, bits, kind):
    (tmp_path / "eight.jp2").write_bytes(jpeg2000(STORED, 8))
    np.testing.assert_array_equal(stored_values(tmp_path / "eight.jp2"), STORED)
    level = np.full((8, 8), 2 ** (8 * np.dtype(kind).itemsize - 1), kind)  # grey, at any precision
    (tmp_path / "x.jp2").write_bytes(jpeg2000(level, bits))
    np.testing.assert_array_equal(stored_values(tmp_path / "x.jp2"), 2 ** (bits - 1))


def test_a_bit_is_one_where_it_is_white(tmp_path):
    """As Pillow writes it: its fax codecs store white as 0, PBM does so too."""
    mask = STORED > 1
    for name, save in {"x.png": {}, "x.tif": {"compression": "group4"}, "x.pbm": {}}.items():
        Image.fromarray(mask).save(tmp_path / name, **save)
        np.testing.assert_array_equal(stored_values(tmp_path / name), mask)


def test_class_three_of_two_bits_is_learned(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(FILES["grey2.png"])
    data = MaskFolder(tmp_path / "images", tmp_path / "masks", names=["a", "b", "c", "d"])
    np.testing.assert_array_equal(data[0]["mask"], STORED)


def test_images_of_few_bits_are_spread_with_a_word_or_kept_where_float_is_declared(
    tmp_path, caplog
):
    (tmp_path / "x.png").write_bytes(FILES["grey2.png"])
    reader = ImageReader(channels=1)
    with caplog.at_level(logging.WARNING, "densekit.data"):
        shown, _ = reader(tmp_path / "x.png"), reader(tmp_path / "x.png")
    np.testing.assert_array_equal(shown[:, :, 0], STORED * 85)
    assert len(caplog.records) == 1
    assert "0..3 rescaled to the declared 8 bits" in caplog.text
    kept = read_image(tmp_path / "x.png", channels=3, dtype="float32")
    np.testing.assert_array_equal(kept, np.repeat(STORED[:, :, None], 3, 2))


def test_what_a_decoder_would_change_for_good_is_refused_by_file(tmp_path):
    colours = np.random.default_rng(0).integers(0, 1 << 16, (3, 4, 3)).astype(">u2")
    deep = png([row.tobytes() for row in colours], 4, 16, 2)
    grey_palette = b"".join(bytes([i, i, i, 0]) for i in range(16))
    header = struct.pack("<IiiHHIIiiII", 40, 4, 3, 1, 4, 0, 12, 0, 0, 16, 0)
    rows = b"".join(row + b"\0\0" for row in packed(STORED, 4))
    bmp = b"BM" + struct.pack("<IHHI", 130, 0, 0, 118) + header + grey_palette + rows
    (tmp_path / "deep.png").write_bytes(deep)
    (tmp_path / "four.bmp").write_bytes(bmp)
    with pytest.raises(ValueError, match=r"four\.bmp: .*4-bit BMP .*with 8 bits"):
        stored_values(tmp_path / "four.bmp")
    with pytest.raises(ValueError, match=r"deep\.png: expected colours of 8 bits"):
        stored_colours(tmp_path / "deep.png")


def test_an_avif_of_ten_bits_is_refused():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "AVIF")
    content = bytearray(stream.getvalue())
    with Image.open(stream) as image:
        assert find_rescaling(image) is None
        content[content.find(b"av1C") + 6] |= 64  # more than 8 bits
        image.fp = io.BytesIO(content)
        with pytest.raises(ValueError, match=r"AVIF of more than 8 bits"):
            find_rescaling(image)
