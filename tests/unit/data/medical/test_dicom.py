from __future__ import annotations

import sys

import nibabel
import numpy as np
import pydicom
import pytest

from densekit.data import read_volume, write_mask
from densekit.data.medical.volumes import read_grid
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
    message = r"expected one series .*1\.2\.3 \(T1, 5 files\); 1\.2\.9 \(scout, 5 files\)"
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / "s")
    assert read_volume(tmp_path / "s", series="1.2.3").shape == (5, 4, 6)
    with pytest.raises(ValueError, match=r"series: expected one of .* got '1\.2\.8'"):
        read_volume(tmp_path / "s", series="1.2.8")


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([0, 2, 4, 8, 10], r"got 4 mm between 003\.dcm and 002\.dcm: 1 slice missing"),
        ([0, 2, 4, 4, 6], r"got 00[23]\.dcm and 00[23]\.dcm at the same"),
        ([0, 2, 4, 6, 7.1], r"expected even steps .* between 002\.dcm and 001\.dcm"),
    ],
)
def test_incomplete_series_are_refused(tmp_path, values, places, message):
    folder = write_series(tmp_path / "s", values, places=places)
    with pytest.raises(ValueError, match=message):
        read_grid(folder)


def test_rounded_positions_are_accepted(tmp_path, values):
    folder = write_series(tmp_path / "s", values, places=[0, 2.501, 5, 7.499, 10])
    assert read_grid(folder).spacing[0] == pytest.approx(2.5)


UID = "1.2.826.0.1.3680043.8.498.4242"
ROWS, SPACING, PIXELS = b"\x28\x00\x10\x00US", b"\x28\x00\x30\x00DS", b"\xe0\x7f\x10\x00OW"


@pytest.mark.parametrize("name", ["001.dcm", UID, f"{UID}.dcm", "IM000001", "slice.0001", "a.MR"])
@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (0, "an empty file"),
        (60, "expected a readable DICOM file"),
        (140, "ends before its size"),
        (ROWS, "ends before its size"),
        (SPACING, "got 0: the file is cut"),
        (PIXELS, "got 0: the file is cut"),
        (-1, "expected 48 bytes of pixels .* the file is cut"),
    ],
)
def test_a_cut_file_of_a_series_is_refused_whatever_its_name(tmp_path, values, name, cut, message):
    folder = write_series(tmp_path / "s", values)
    (folder / "001.dcm").rename(folder / name)  # the last slice
    if name.endswith(".MR"):
        (folder / "002.dcm").rename(folder / "b.MR")
    whole = (folder / name).read_bytes()
    end = whole.index(cut) if isinstance(cut, bytes) else cut
    (folder / name).write_bytes(whole[:end])
    for read in (read_grid, read_volume):
        with pytest.raises(ValueError, match=rf"s/{name}: .*{message}"):
            read(folder)


def test_notes_without_a_suffix_are_passed_over(tmp_path, values):
    folder = write_series(tmp_path / "s", values)
    (folder / "README").write_text("Scans of the first visit.")
    assert read_volume(folder).shape == values.shape
    (folder / "IM0009").write_bytes(bytes(64))
    with pytest.raises(ValueError, match="IM0009: expected a readable DICOM file, got 64 bytes"):
        read_volume(folder)


def test_a_slope_of_zero_is_refused(tmp_path, values):
    folder = write_series(tmp_path / "s", values, RescaleSlope=0)
    with pytest.raises(ValueError, match=r"RescaleSlope: expected a number other than 0, got 0"):
        read_volume(folder)


def test_what_has_no_pixels_is_passed_over_unless_it_is_of_the_series(tmp_path, values):
    folder = write_series(tmp_path / "s", values)
    (folder / "._001.dcm").write_bytes(b"Mac OS X")
    report = pydicom.dcmread(folder / "001.dcm")
    for tag in ("Rows", "Columns", "PixelData"):
        delattr(report, tag)
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.SeriesInstanceUID = "1.2.4"
    report.save_as(folder / "report")
    assert read_grid(folder).shape == (5, 4, 6)
    report.SeriesInstanceUID = "1.2.3"
    report.save_as(folder / "report")
    with pytest.raises(ValueError, match=r"s/report: expected an image like the other files"):
        read_grid(folder)
    report.SOPClassUID, report.SeriesInstanceUID = pydicom.uid.CTImageStorage, "1.2.4"
    report.save_as(folder / "report")
    with pytest.raises(ValueError, match=r"s/report: expected a complete DICOM image"):
        read_grid(folder)


EMPTY = [
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("SeriesDescription", "NumberOfFrames", "ModalityLUTSequence"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
]


@pytest.mark.parametrize("count", [1, 5])
def test_empty_tags_are_absent_ones(tmp_path, values, count):
    folder = write_series(tmp_path / "s", values[:count])
    expected = read_volume(folder)
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        if count == 1:
            del header.SliceThickness
        header.save_as(file)
    if count == 1:
        expected = read_volume(folder)
    for tag in EMPTY:
        for file in folder.iterdir():
            header = pydicom.dcmread(file)
            setattr(header, tag, [] if tag.endswith("Sequence") else None)
            header.save_as(file)
        volume = read_volume(folder)
        np.testing.assert_array_equal(volume.image, expected.image)
        np.testing.assert_array_equal(volume.affine, expected.affine)


def test_empty_functional_groups_fall_back_to_the_header(tmp_path, values):
    path = write_enhanced(tmp_path / "e.dcm", values, range(5))
    expected = read_volume(path)
    header = pydicom.dcmread(path)
    spacing = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = []
    header.PixelSpacing = spacing
    for group in header.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = []
    header.save_as(path)
    np.testing.assert_array_equal(read_volume(path).affine, expected.affine)
    del header.PerFrameFunctionalGroupsSequence[0]
    header.save_as(path)
    with pytest.raises(
        ValueError, match=r"e\.dcm: expected one functional group per frame, got 4 for 5"
    ):
        read_volume(path)


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 1.0, 100.0])
def test_slices_are_compared_with_their_own_distance(tmp_path, values, scale):
    tags = {"PixelSpacing": [0.8 * scale, 0.5 * scale]}
    folder = write_series(tmp_path / "s", values, gap=2.5 * scale, **tags)
    assert read_grid(folder).spacing == pytest.approx([2.5 * scale, 0.8 * scale, 0.5 * scale])
    places = [scale * place for place in (0, 2.5, 5, 5, 7.5)]
    folder = write_series(tmp_path / "double", values, places=places, **tags)
    with pytest.raises(ValueError, match="at the same one"):
        read_grid(folder)
    places = [scale * place for place in (0, 2.5, 5, 10, 12.5)]
    folder = write_series(tmp_path / "gap", values, places=places, **tags)
    with pytest.raises(ValueError, match=r"1 slice missing"):
        read_grid(folder)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 0}, r"001\.dcm: expected rows and columns, got 0 and 6"),
        ({"Columns": 0}, r"001\.dcm: expected rows and columns, got 4 and 0"),
        (
            {"ImagePositionPatient": []},
            r"001\.dcm: frame 1: expected ImagePositionPatient, got none",
        ),
        ({"PixelSpacing": [0.8]}, r"001\.dcm: frame 1: PixelSpacing: expected 2 finite number"),
        ({"PixelSpacing": [0, 0.5]}, r"001\.dcm: PixelSpacing: expected more than 0"),
        ({"ImageOrientationPatient": [0] * 6}, r"001\.dcm: ImageOrientationPatient: expected two"),
        (
            {"ImagePositionPatient": None},
            r"001\.dcm: frame 1: expected ImagePositionPatient, got none",
        ),
        ({"PixelSpacing": None}, r"001\.dcm: frame 1: expected PixelSpacing, got none"),
        (
            {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
            r"001\.dcm: expected a grey image .* got colour",
        ),
        ({"NumberOfFrames": 4}, r"001\.dcm: expected one slice per file.* got 4 frames"),
        (
            {"ModalityLUTSequence": [pydicom.Dataset()]},
            r"001\.dcm: expected .* got a modality lookup table",
        ),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, r"expected slices of equal directions"),
        ({"PixelSpacing": [0.8, 0.6]}, r"expected slices of equal spacing"),
        ({"BitsAllocated": 8}, r"001\.dcm: expected decodable pixels"),
    ],
)
def test_odd_slices_are_refused_by_name(tmp_path, values, tags, message):
    folder = write_series(tmp_path / "s", values)
    normal = np.cross(SIDEWAYS, FORWARD)
    place = np.array([10.0, 20, 30]) + normal * 10
    write_slice(folder / "001.dcm", values[4], place, **tags)
    with pytest.raises(ValueError, match=message):
        read_volume(folder)


def test_values_that_are_no_numbers_are_refused_by_file(tmp_path, values):
    folder = write_series(tmp_path / "s", values)
    raw = (folder / "002.dcm").read_bytes()
    (folder / "002.dcm").write_bytes(raw.replace(b"0.8\\0.5", b"a.b\\0.5"))
    with pytest.raises(ValueError, match=r"s/002\.dcm: expected a readable DICOM header"):
        read_volume(folder)


def test_what_is_no_picture(tmp_path, values):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected DICOM images in this folder, got readme\.txt"):
        read_volume(tmp_path / "empty")
    folder = write_series(tmp_path / "s", values)
    (folder / "broken.dcm").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"broken\.dcm: expected a readable DICOM file"):
        read_volume(folder)


def test_missing_package_is_asked_for(tmp_path, values, monkeypatch):
    folder = write_series(tmp_path / "s", values)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r"needs pydicom: pip install 'densekit\[medical\]'"):
        read_volume(folder)
