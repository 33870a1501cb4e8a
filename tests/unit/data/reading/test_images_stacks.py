"""Images of other depths and channels: TIFF and NumPy, kept as they are."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from densekit.data import MaskFolder, Source, read_image
from densekit.data.reading.images import ImageReader, stored_size
from densekit.data.reading.stored_values import stored_values

VALUES = np.random.default_rng(0).integers(0, 60000, (6, 9, 5)).astype(np.uint16)


@pytest.mark.parametrize("planar", [False, True])
def test_tiff_of_many_channels(tmp_path, planar):
    path = tmp_path / "x.tif"
    if planar:
        tifffile.imwrite(path, VALUES.transpose(2, 0, 1), photometric="minisblack")
    else:
        tifffile.imwrite(path, VALUES, photometric="minisblack", planarconfig="contig")
    image = read_image(path, channels=5, dtype="float32")
    np.testing.assert_array_equal(image, VALUES)
    assert image.dtype == np.float32
    assert stored_size(path) == (6, 9)
    with pytest.raises(ValueError, match=r"x\.tif: expected 8 bits .*uint16.* float32"):
        read_image(path, channels=5)
    with pytest.raises(ValueError, match=r"x\.tif: expected 6 channels .*, got 5"):
        read_image(path, channels=6, dtype="float32")
    with pytest.raises(ValueError, match=r"x\.tif: expected the annotated .* 9 x 6, got 6 x 9"):
        ImageReader(5, "float32")(path, (9, 6))


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_tiff_keeps_its_bits(tmp_path, channels):
    tifffile.imwrite(tmp_path / "x.tif", VALUES[:, :, :channels], photometric="rgb")
    kept = read_image(tmp_path / "x.tif", channels=channels, dtype="float32")
    np.testing.assert_array_equal(kept, VALUES[:, :, :channels])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_tiff_of_any_depth(tmp_path, dtype):
    grey = (VALUES[:, :, 0] % 256).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", grey)
    kept = read_image(tmp_path / "x.tif", channels=1, dtype="float32")
    np.testing.assert_array_equal(kept[:, :, 0], grey)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_what_pillow_reads_in_full_it_reads(tmp_path, monkeypatch, mode):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    Image.new(mode, (9, 6), 7).save(tmp_path / "x.tif", compression="tiff_lzw")
    image = read_image(tmp_path / "x.tif", dtype="float32")
    assert image.shape == (6, 9, 3)
    assert image[0, 0, 0] == 7


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_numpy_files(tmp_path, order):
    np.save(tmp_path / "x.npy", (VALUES % 256).astype(np.uint8).transpose(order))
    assert stored_size(tmp_path / "x.npy") == (6, 9)
    image = read_image(tmp_path / "x.npy", channels=5)
    np.testing.assert_array_equal(image, VALUES % 256)
    assert image.dtype == np.uint8
    np.save(tmp_path / "g.npy", VALUES[:, :, 0])
    assert read_image(tmp_path / "g.npy", channels=1, dtype="float32").shape == (6, 9, 1)


def test_pages_are_never_dropped_without_a_word(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 6, 9), dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"x\.tif: expected one page .* got 5 pages; set channels: 5"
    ):
        read_image(tmp_path / "x.tif", channels=1)
    tifffile.imwrite(
        tmp_path / "x.tif", VALUES[:, :, :3].transpose(2, 0, 1), photometric="minisblack"
    )
    kept = read_image(tmp_path / "x.tif", dtype="float32")
    np.testing.assert_array_equal(kept, VALUES[:, :, :3])


def test_broken_and_odd_stacks_are_named(tmp_path):
    (tmp_path / "x.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "x.npy").write_bytes(b"no")
    (tmp_path / "short.tif").write_bytes(b"II*\0")
    np.save(tmp_path / "c.npy", np.zeros((2, 3), complex))
    np.save(tmp_path / "t.npy", np.zeros((2, 3), str))
    np.save(tmp_path / "y.npy", np.zeros((2, 3, 4, 5), dtype=np.uint8))
    for name, message in (
        ("x.tif", "expected a readable TIFF"),
        ("x.npy", "expected a readable NumPy array"),
        ("short.tif", "expected a readable TIFF"),
        ("c.npy", "expected numbers, got an array of complex128"),
        ("t.npy", "expected numbers, got an array of <U1"),
        ("y.npy", r"an array of shape \(2, 3, 4, 5\)"),
        ("z.npy", "expected a readable NumPy array"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
            read_image(tmp_path / name, channels=2)


def test_channels_that_pillow_leaves_out(tmp_path):
    four = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    infrared = tmp_path / "rgbi.tif"
    tifffile.imwrite(infrared, four, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(infrared, channels=4), four)
    np.testing.assert_array_equal(read_image(infrared, channels=3), four[:, :, :3])
    two = tmp_path / "two.tif"
    tifffile.imwrite(two, four[:, :, :2], photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(two, channels=2), four[:, :, :2])
    with pytest.raises(ValueError, match=r"two\.tif: expected 1 channel .*, got 2"):
        read_image(two, channels=1)


def test_tifffile_is_asked_for(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", VALUES)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImportError, match=r"needs tifffile: pip install 'densekit\[tiles\]'"):
        read_image(tmp_path / "x.tif", channels=5, dtype="float32")


def test_declared_intensity_is_applied_and_described(tmp_path):
    for name, array in (("i", VALUES[:, :, 0]), ("m", (VALUES[:, :, 0] > 9).astype(np.uint8))):
        (tmp_path / name).mkdir()
        Image.fromarray(array).save(tmp_path / name / "a.png")
    rule = {"kind": "window", "level": 30000, "width": 60000}
    data = MaskFolder(
        tmp_path / "i", tmp_path / "m", names=["x"], channels=1, dtype="float32", intensity=rule
    )
    np.testing.assert_allclose(data[0]["image"], VALUES[:, :, :1] / 60000, atol=1e-6)
    source = Source(train=data).describe()
    assert (source["intensity"], source["mean"], source["std"]) == (rule, [0.0], [1.0])
    assert source["dtype"] == "float32"
    with pytest.raises(ValueError, match=r"intensity\.kind: .* got 'windw'"):
        ImageReader(1, intensity={"kind": "windw"})


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_smaller_copies_in_a_tiff_are_neither_channels_nor_pages(tmp_path, copies):
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    for name, values in (("picture", picture), ("mask", picture[:, :, 0])):
        options = {"photometric": "rgb"} if values.ndim == 3 else {}
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            writer.write(values, tile=(16, 16), **options)
            for step in range(1, copies + 1):
                small = values[:: 2**step, :: 2**step]
                writer.write(small, tile=(16, 16), subfiletype=1, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "picture.tif"), picture)
    np.testing.assert_array_equal(stored_values(tmp_path / "mask.tif"), picture[:, :, 0])


def test_tiff_of_16_bit_planes_keeps_both_bytes(tmp_path):
    stored = np.random.default_rng(0).integers(0, 1 << 16, (3, 6, 8)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(ImageReader(3, "float32")(path), stored.transpose(1, 2, 0))
    with pytest.raises(ValueError, match=r"a\.tif: expected 8 bits per channel"):
        ImageReader(3)(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", [read_image, stored_values, stored_size])
def test_whatever_is_broken_in_a_tiff_the_file_is_named(tmp_path, read):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, VALUES[:, :, 0].astype(np.uint8), compression="zlib")
    whole = path.read_bytes()
    for _ in range(60):
        place = int(rng.integers(0, len(whole)))
        broken = bytearray(whole)
        broken[place : place + 12] = rng.bytes(min(12, len(whole) - place))
        path.write_bytes(broken)
        said = ""
        try:
            read(path)
        except ValueError as error:  # some bytes change nothing that can be seen
            said = str(error)
        assert not said or str(path) in said
