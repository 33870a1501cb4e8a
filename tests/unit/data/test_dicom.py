from __future__ import annotations

import sys

import nibabel
import numpy as np
import pydicom
import pytest

from densekit.data import read_volume, write_mask
from densekit.data.volumes import read_grid
from tests.unit.data.medical_files import (
    FORWARD,
    SIDEWAYS,
    write_enhanced,
    write_series,
    write_slice,
)


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 4000, (5, 4, 6), dtype=np.uint16)


def test_slices_are_sorted_by_position_and_scaled(tmp_path, values):
    folder = write_series(tmp_path / "s", values, RescaleSlope=0.5, RescaleIntercept=-1024)
    (folder / "notes.txt").write_text("no picture")
    volume = read_volume(folder)
    np.testing.assert_allclose(volume.image[..., 0], values * 0.5 - 1024)
    np.testing.assert_allclose(volume.spacing, [2.5, 0.8, 0.5])
    assert (volume.kind, volume.shape, volume.header) == ("dicom", (5, 4, 6), None)
    assert read_grid(folder).shape == (5, 4, 6)


def test_affine_puts_each_voxel_where_the_header_says(tmp_path, values):
    volume = read_volume(write_series(tmp_path / "s", values))
    x, y, z = 3, 2, 4
    normal = np.cross(SIDEWAYS, FORWARD)
    lps = np.array([10.0, 20, 30]) + x * 0.5 * np.array(SIDEWAYS) + y * 0.8 * np.array(FORWARD)
    lps += z * 2.5 * normal
    ras = volume.affine @ [x, y, z, 1]
    np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-6)


def test_mask_of_a_series_lies_on_it(tmp_path, values):
    volume = read_volume(write_series(tmp_path / "s", values))
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[4, 2, 3] = 1
    write_mask(tmp_path / "m.nii.gz", mask, volume)
    written = nibabel.load(tmp_path / "m.nii.gz")
    [index] = np.argwhere(np.asarray(written.dataobj))
    np.testing.assert_allclose(
        nibabel.affines.apply_affine(written.affine, index),
        nibabel.affines.apply_affine(volume.affine, [3, 2, 4]),
        atol=1e-5,
    )
    np.testing.assert_allclose(written.header.get_zooms(), [0.5, 0.8, 2.5], rtol=1e-6)
    again = read_volume(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(again.image[..., 0], mask)


def test_enhanced_object_is_sorted_frame_by_frame(tmp_path, values):
    path = write_enhanced(tmp_path / "e.dcm", values, [2, 0, 4, 1, 3])
    expected = values * 2.0 - np.arange(5)[:, None, None]
    for given in (path, tmp_path):
        volume = read_volume(given)
        np.testing.assert_allclose(volume.image[..., 0], expected)
        np.testing.assert_allclose(volume.spacing, [2.0, 0.8, 0.5], rtol=1e-6)


def test_single_slice_takes_its_thickness(tmp_path, values):
    folder = write_series(tmp_path / "s", values[:1], SpacingBetweenSlices=6.5)
    assert read_volume(folder).spacing[0] == pytest.approx(6.5)


def test_tilted_gantry_is_a_sheared_affine(tmp_path, values):
    normal = np.cross(SIDEWAYS, FORWARD)
    for i, pixels in enumerate(values):
        position = i * (2.0 * normal + 0.3 * np.array(FORWARD))
        write_slice(tmp_path / "s" / f"{i}.dcm", pixels, position)
    volume = read_volume(tmp_path / "s")
    np.testing.assert_allclose(
        volume.affine[:3, 2],
        (2.0 * normal + 0.3 * np.array(FORWARD)) * [-1, -1, 1],
        atol=1e-6,
    )
    # The quaternion cannot say it: no viewer must prefer it.
    write_mask(tmp_path / "m.nii.gz", np.ones(volume.shape, np.uint8), volume)
    header = nibabel.load(tmp_path / "m.nii.gz").header
    np.testing.assert_allclose(header.get_sform(), volume.affine, atol=1e-5)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)


def test_one_of_several_series(tmp_path, values):
    write_series(tmp_path / "s", values)
    for i, pixels in enumerate(values):
        write_slice(
            tmp_path / "s" / f"b{i}.dcm",
            pixels,
            [0, 0, 0],
            SeriesInstanceUID="1.2.9",
            SeriesDescription="scout",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    message = r"2 series in one folder.*1\.2\.3 \(T1, 5 files\); 1\.2\.9 \(scout, 5 files\)"
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / "s")
    assert read_volume(tmp_path / "s", series="1.2.3").shape == (5, 4, 6)
    with pytest.raises(ValueError, match=r"series: '1\.2\.8' is not known"):
        read_volume(tmp_path / "s", series="1.2.8")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([0, 2, 4, 8, 10], r"between 003\.dcm and 002\.dcm 1 slice\(s\) are missing"),
        ([0, 2, 4, 4, 6], r"00[23]\.dcm and 00[23]\.dcm are at the same place"),
        ([0, 2, 4, 6, 7.1], r"between 002\.dcm and 001\.dcm the step is"),
    ],
)
def test_incomplete_series_are_refused(tmp_path, values, places, message):
    folder = write_series(tmp_path / "s", values, places=places)
    with pytest.raises(ValueError, match=message):
        read_grid(folder)


def test_rounded_positions_are_accepted(tmp_path, values):
    folder = write_series(tmp_path / "s", values, places=[0, 2.501, 5, 7.499, 10])
    assert read_grid(folder).spacing[0] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImagePositionPatient": None}, r"001\.dcm: frame 1 lacks ImagePositionPatient"),
        ({"PixelSpacing": None}, r"001\.dcm: frame 1 lacks PixelSpacing"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, r"001\.dcm: a colour picture"),
        ({"NumberOfFrames": 4}, r"001\.dcm: 4 frames without a place"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, r"001\.dcm: values by a modality table"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, r"differ in directions"),
        ({"PixelSpacing": [0.8, 0.6]}, r"differ in spacing"),
        ({"BitsAllocated": 8}, r"001\.dcm: the picture cannot be decoded"),
    ],
)
def test_odd_slices_are_refused_by_name(tmp_path, values, tags, message):
    folder = write_series(tmp_path / "s", values)
    normal = np.cross(SIDEWAYS, FORWARD)
    place = np.array([10.0, 20, 30]) + normal * 10
    write_slice(folder / "001.dcm", values[4], place, **tags)
    with pytest.raises(ValueError, match=message):
        read_volume(folder)


def test_what_is_no_picture(tmp_path, values):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no DICOM picture in this folder, it holds readme\.txt"):
        read_volume(tmp_path / "empty")
    folder = write_series(tmp_path / "s", values)
    (folder / "broken.dcm").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"broken\.dcm: not a readable DICOM file"):
        read_volume(folder)


def test_missing_package_is_asked_for(tmp_path, values, monkeypatch):
    folder = write_series(tmp_path / "s", values)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"needs pydicom: pip install 'densekit\[medical\]'"):
        read_volume(folder)
