from __future__ import annotations

import sys

import nibabel
import numpy as np
import pytest

from densekit.data import read_volume, write_mask
from densekit.data.medical.grids import check_same_grid, orientation_of
from densekit.data.medical.volumes import read_channels, read_channels_grid, read_grid
from tests.unit.data.medical_files import AFFINE, write_nifti


@pytest.fixture
def data():
    return np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


def test_axes_are_transposed_and_nothing_else(tmp_path, data):
    volume = read_volume(write_nifti(tmp_path / "a.nii.gz", data))
    assert volume.image.shape == (5, 4, 3, 1)
    assert volume.image.dtype == np.float32
    np.testing.assert_array_equal(volume.image[..., 0], data.T)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(AFFINE[:3, :3], axis=0)[::-1])
    assert (volume.kind, volume.shape) == ("nifti", (5, 4, 3))


def test_slope_and_intercept_are_applied(tmp_path, data):
    path = tmp_path / "a.nii"
    file = nibabel.Nifti1Image(data, AFFINE)
    file.header.set_slope_inter(2, -1024)
    nibabel.save(file, path)
    stored = nibabel.load(path).get_fdata()
    np.testing.assert_array_equal(read_volume(path).image[..., 0], stored.T)


def test_fourth_axis_is_channels_and_two_axes_are_one_slice(tmp_path, data):
    four = np.stack([data, data * 2], axis=-1)
    volume = read_volume(write_nifti(tmp_path / "four.nii", four))
    assert volume.channels == 2
    np.testing.assert_array_equal(volume.image[..., 1], data.T * 2)
    flat = read_volume(write_nifti(tmp_path / "flat.nii", data[:, :, 0]))
    assert flat.image.shape == (1, 4, 3, 1)
    write_mask(tmp_path / "m.nii", np.ones((1, 4, 3), np.uint8), flat)
    assert nibabel.load(tmp_path / "m.nii").shape == (3, 4)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_mask_lies_on_its_source(tmp_path, data, suffix):
    source = tmp_path / "a.nii.gz"
    file = nibabel.Nifti1Image(data, None)
    file.set_qform(AFFINE, code=1)  # no sform: the affine is the quaternion's
    file.header.set_slope_inter(0.5, 3)
    file.header["descrip"] = b"scan"
    nibabel.save(file, source)
    volume = read_volume(source)
    mask = np.zeros((5, 4, 3), dtype=np.uint8)
    mask[4, 0, 1] = 2
    write_mask(tmp_path / f"m{suffix}", mask, volume)
    before, written = nibabel.load(source), nibabel.load(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(written.affine, before.affine)
    assert written.shape == before.shape
    assert written.get_data_dtype() == np.uint8
    assert np.isnan(written.header["scl_slope"])
    for key in ("qform_code", "sform_code", "descrip", "quatern_b", "qoffset_x", "pixdim"):
        np.testing.assert_array_equal(written.header[key], before.header[key])
    assert np.argwhere(np.asarray(written.dataobj)).tolist() == [[1, 0, 4]]
    assert not list(tmp_path.glob(".*"))


def test_multilabel_mask_and_wide_values(tmp_path, data):
    volume = read_volume(write_nifti(tmp_path / "a.nii", data))
    planes = np.zeros((2, 5, 4, 3), dtype=np.uint16)
    planes[1, 0, 0, 2] = 1000
    write_mask(tmp_path / "m.nii.gz", planes, volume)
    written = np.asarray(nibabel.load(tmp_path / "m.nii.gz").dataobj)
    assert written.shape == (3, 4, 5, 2)
    assert written[2, 0, 0, 1] == 1000


def test_channels_of_several_files(tmp_path, data):
    paths = [write_nifti(tmp_path / f"{i}.nii", data + np.int16(i)) for i in range(3)]
    volume = read_channels(paths)
    assert volume.channels == read_channels_grid(paths).channels == 3
    np.testing.assert_array_equal(volume.image[..., 2], data.T + 2)
    moved = AFFINE.copy()
    moved[0, 3] += 0.1
    odd = write_nifti(tmp_path / "moved.nii", data, moved)
    with pytest.raises(ValueError, match=r"moved\.nii: expected the voxel positions of .*0\.nii"):
        read_channels([paths[0], odd])
    small = write_nifti(tmp_path / "small.nii", data[:2])
    with pytest.raises(ValueError, match=r"small\.nii: expected 5 x 4 x 3 .*0\.nii, got 5 x 4 x 2"):
        read_channels_grid([paths[0], small])


def test_header_alone_says_the_same(tmp_path, data):
    path = write_nifti(tmp_path / "a.nii.gz", data)
    grid, volume = read_grid(path), read_volume(path)
    for key in ("path", "kind", "shape", "channels", "spacing"):
        assert getattr(grid, key) == getattr(volume, key)
    assert orientation_of(grid) == "ALS"


def test_microns_become_millimetres(tmp_path, data):
    path = write_nifti(tmp_path / "a.nii", data, np.diag([500.0, 500, 2000, 1]), xyzt_units=3)
    assert read_grid(path).spacing == (2.0, 0.5, 0.5)


def bad_files(tmp_path, data):
    holes = data.astype(np.float32)
    holes[0, 0, :2] = np.nan
    cut = tmp_path / "cut.nii.gz"
    whole = write_nifti(tmp_path / "whole.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)))
    cut.write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "text.nii").write_text("no volume")
    colour = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    header = bytearray(write_nifti(tmp_path / "flat.nii", data).read_bytes())
    header[312:328] = bytes(16)  # srow_z
    (tmp_path / "flat.nii").write_bytes(header)
    return {
        "gone.nii": r"gone\.nii: expected an existing file or folder, got none; .* holds ",
        str(
            write_nifti(tmp_path / "nan.nii", holes).name
        ): r"nan\.nii: expected finite voxels, got 2 of 60 NaN",
        "cut.nii.gz": r"cut\.nii\.gz: expected a readable",
        "text.nii": r"text\.nii: expected a readable volume",
        str(write_nifti(tmp_path / "rgb.nii", colour).name): r"rgb\.nii: expected integers",
        "flat.nii": r"flat\.nii: expected an affine",
        str(
            write_nifti(tmp_path / "five.nii", np.zeros((2, 2, 2, 1, 3))).name
        ): r"five\.nii: expected shape",
        str(write_nifti(tmp_path / "c.nii", data.astype("c8")).name): r"c\.nii: expected integers",
    }


def test_bad_files_are_refused_by_name(tmp_path, data):
    for name, message in bad_files(tmp_path, data).items():
        with pytest.raises(ValueError, match=message):
            read_volume(tmp_path / name)


def test_masks_that_do_not_fit_are_refused(tmp_path, data):
    volume = read_volume(write_nifti(tmp_path / "a.nii", data))
    mask = np.zeros((5, 4, 3), dtype=np.uint8)
    for path, given, message in (
        ("m.png", mask, r"m\.png: expected a NIfTI file"),
        ("m.nii", mask.T, r"m\.nii: expected .* \(5, 4, 3\) .*a\.nii, got \(3, 4, 5\)"),
        ("m.nii", mask.astype(np.int64), r"expected a mask of uint8 or uint16, got int64"),
    ):
        with pytest.raises(ValueError, match=message):
            write_mask(tmp_path / path, given, volume)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_missing_package_is_asked_for(tmp_path, data, monkeypatch):
    path = write_nifti(tmp_path / "a.nii", data)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"needs nibabel: pip install 'densekit\[medical\]'"):
        read_volume(path)


@pytest.mark.parametrize("scale", [4e-6, 1e-4, 1.0, 50.0])  # 4 nm, .1 um, 1 mm, 5 cm
def test_grids_are_compared_in_voxels(tmp_path, data, scale):
    affine = np.diag([scale, scale, 2 * scale, 1])
    volume = write_nifti(tmp_path / "a.nii", data, affine)
    assert read_grid(volume).spacing == pytest.approx([2 * scale, scale, scale], rel=1e-6)
    for shift, is_same in ((0.02, True), (0.5, False), (9, False)):
        moved = affine.copy()
        moved[2, 3] = 2 * scale * shift
        mask = write_nifti(tmp_path / "m.nii", data, moved)
        if is_same:
            check_same_grid(read_grid(volume), read_grid(mask))
            continue
        with pytest.raises(
            ValueError, match=rf"m\.nii: expected the voxel positions of .*{shift} voxels"
        ):
            check_same_grid(read_grid(volume), read_grid(mask))
    wide = write_nifti(tmp_path / "wide.nii", data, np.diag([1.1, 1, 1, 1]) @ affine)
    with pytest.raises(ValueError, match=r"wide\.nii: expected the voxel positions of"):
        check_same_grid(read_grid(volume), read_grid(wide))
