"""Whatever is wrong with a file of a volume: one error, and it names the file."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest

from densekit.data import read_volume
from densekit.data.medical.volumes import read_grid
from tests.unit.data.medical_files import write_nifti

VALUES = np.random.default_rng(0).integers(0, 999, (9, 9, 9), dtype=np.int16)


def changed(path, offset, form, *values):
    """A NIfTI file with other bytes at one place of its header."""
    write_nifti(path, VALUES, np.eye(4))
    is_packed = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes())
    struct.pack_into(form, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)) if is_packed else bytes(raw))


HEADERS = {
    "magic": (".nii", 344, "4s", b"abc"),
    "nan": (".nii", 280, "<f", np.nan),
    "infinite": (".nii.gz", 280, "<f", np.inf),
    "zero": (".nii", 280, "<12f", *[0] * 12),
    "flat": (".nii", 280, "<12f", *[1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]),
    "none": (".nii", 40, "<4h", 3, 0, 9, 9),
    "negative": (".nii", 40, "<4h", 3, -3, 9, 9),
    "huge": (".nii", 40, "<4h", 3, 32767, 32767, 32767),
    "huge_packed": (".nii.gz", 40, "<4h", 3, 32767, 32767, 32767),
    "large_packed": (".nii.gz", 40, "<4h", 3, 90, 90, 9),
    "dims": (".nii", 40, "<h", 9),
    "five": (".nii", 40, "<6h", 5, 3, 3, 3, 3, 3),
    "type": (".nii", 70, "<h", 77),
    "bits": (".nii", 70, "<h", 1),
    "rgb": (".nii", 70, "<h", 128),
    "complex": (".nii", 70, "<h", 32),
    "intercept": (".nii", 112, "<2f", 1, np.nan),
    "offset": (".nii", 108, "<f", 1e9),
    "offset_none": (".nii", 108, "<f", 0),
    "offset_small": (".nii.gz", 108, "<f", 100),
    "offset_negative": (".nii", 108, "<f", -8),
}


def whole(path):
    write_nifti(path, VALUES, np.eye(4))
    return bytearray(path.read_bytes())


def damaged(path):
    raw = whole(path)
    raw[500:540] = bytes(40)
    path.write_bytes(raw)


def quaternion(path, offset, form, *values):
    """One placed by its qform alone."""
    file = nibabel.Nifti1Image(VALUES, None)
    file.set_qform(np.eye(4), 1)
    nibabel.save(file, path)
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, offset, *values)
    path.write_bytes(raw)


FILES = {
    "cut.nii": lambda path: path.write_bytes(whole(path)[:-20]),
    "cut.nii.gz": lambda path: path.write_bytes(whole(path)[:-300]),
    "head.nii.gz": lambda path: path.write_bytes(whole(path)[:100]),
    "damaged.nii.gz": damaged,
    "unpacked.nii.gz": lambda path: path.write_bytes(gzip.decompress(whole(path))),
    "empty.nii": lambda path: path.touch(),
    "empty.nii.gz": lambda path: path.touch(),
    "noise.nii": lambda path: path.write_bytes(np.random.default_rng(0).bytes(2000)),
    "noise.nii.gz": lambda path: path.write_bytes(np.random.default_rng(0).bytes(2000)),
    "steps.nii": lambda path: quaternion(path, 76, "<4f", 1, 0, 1, 1),
    "quaternion.nii": lambda path: quaternion(path, 256, "<3f", 2, 2, 2),
    "folder.nii": lambda path: path.mkdir(),
    "text.mha": lambda path: path.write_text("no volume"),
    "text.hdr": lambda path: path.write_text("no volume"),
    "text.img": lambda path: path.write_text("no volume"),
    "text.dcm": lambda path: path.write_text("no volume"),
    "text.xyz": lambda path: path.write_text("no volume"),
    "empty.nrrd": lambda path: path.touch(),
    "alone.mhd": lambda path: path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\n"
        "ElementDataFile = none.raw\n"
    ),
}
READ_BY_ITS_HEADER = ("damaged.nii.gz", "alone.mhd")


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    FILES[name](tmp_path / name)
    with pytest.raises(ValueError, match=f"/{name}: "):
        read_volume(tmp_path / name)
    if name not in READ_BY_ITS_HEADER:
        with pytest.raises(ValueError, match=f"/{name}: "):
            read_grid(tmp_path / name)


@pytest.mark.parametrize("name", HEADERS)
def test_headers(tmp_path, name):
    suffix, *change = HEADERS[name]
    path = tmp_path / f"{name}{suffix}"
    changed(path, *change)
    for read in (read_grid, read_volume):
        with pytest.raises(ValueError, match=f"/{name}{suffix}: "):
            read(path)


def test_files_packed_in_several_parts_are_whole(tmp_path):
    raw = gzip.decompress(whole(tmp_path / "a.nii.gz"))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:700]) + gzip.compress(raw[700:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").image[..., 0], VALUES.T)
