"""Repaired copies of volumes: no voxel changes its value or its position in the world."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from densekit.app.doctor.repair import LIST
from densekit.app.doctor.run import diagnose
from densekit.app.doctor.volume_repair import NOT_REPAIRED, REPAIRS
from densekit.data.medical.volumes import read_volume
from tests.unit.app.doctor import small_sets as sets
from tests.unit.app.doctor.test_repair import _repaired

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _turn(file, codes):
    stored = nibabel.load(file)
    change = ornt_transform(io_orientation(stored.affine), axcodes2ornt(codes))
    nibabel.save(nibabel.Nifti1Image.from_bytes(stored.as_reoriented(change).to_bytes()), file)


def _planted(root):
    """Volumes with one defect each; returns the node of their `Source`."""
    node = sets.volumes(root)
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        _turn(folder / "case_0.nii.gz", "LAS")
        _turn(folder / "case_1.nii.gz", "PSR")
    values, mask = sets.voxels(2)
    two = nibabel.Nifti1Image(values, AFFINE)
    two.header.set_xyzt_units("mm")
    two.set_sform(AFFINE, 1)
    two.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE, 1)
    nibabel.save(two, images / "case_2.nii.gz")
    sets.save(masks / "case_3.nii.gz", sets.voxels(3)[1].astype(np.float32) * (1 - 1e-5))
    near, far = AFFINE.copy(), AFFINE.copy()
    near[:3, 3], far[:3, 3] = 0.3, 4
    sets.save(masks / "case_4.nii.gz", sets.voxels(4)[1], near)
    _turn(masks / "case_5.nii.gz", "SPL")
    sets.save(masks / "case_6.nii.gz", sets.voxels(6)[1], far)
    sets.save(masks / "case_7.nii.gz", sets.voxels(7)[1] * np.float32(0.5))
    values = sets.voxels(8)[0]
    values[0, 0, 0] = np.nan
    sets.save(images / "case_8.nii.gz", values)
    sets.save(images / "case_9.nii.gz", sets.voxels(9)[0], placed=False)
    (images / "case_10.nii.gz").write_bytes(b"no volume")
    return node


def test_volumes(tmp_path):
    node = _planted(tmp_path / "set")
    done, copy = _repaired(node, tmp_path, tmp_path / "fixed")
    rows = json.loads((tmp_path / "fixed" / LIST).read_text())
    told = {(Path(row["file"]).name, Path(row["file"]).parent.name): row for row in rows}
    assert {name: row["repair"] for name, row in told.items() if name[1]} == {
        ("case_0.nii.gz", "images"): REPAIRS["mixed-orientations"][0],
        ("case_1.nii.gz", "images"): REPAIRS["mixed-orientations"][0],
        ("case_2.nii.gz", "images"): REPAIRS["frames-differ"][0],
        ("case_3.nii.gz", "masks"): REPAIRS["mask-with-fractions"][0],
        ("case_4.nii.gz", "masks"): REPAIRS["volume-mask-moved"][0],
        ("case_5.nii.gz", "masks"): REPAIRS["volume-mask-size"][0],
        ("case_6.nii.gz", "masks"): NOT_REPAIRED,
        ("case_7.nii.gz", "masks"): NOT_REPAIRED,
        ("case_8.nii.gz", "images"): NOT_REPAIRED,
        ("case_9.nii.gz", "images"): NOT_REPAIRED,
        ("case_9.nii.gz", "masks"): NOT_REPAIRED,
        ("case_10.nii.gz", "images"): NOT_REPAIRED,
    }
    assert done[NOT_REPAIRED] == sum(row["repair"] == NOT_REPAIRED for row in rows)
    left = {Path(f.file).name for f in diagnose("mine", copy, None).findings}
    assert left - {""} == {f"case_{n}.nii.gz" for n in range(6, 11)}
    for number in range(6):
        _is_unchanged(tmp_path, number)


def _is_unchanged(folder, number):
    """Every voxel of the image has its value and its position, every one of the mask its label."""
    values, mask = sets.voxels(number)
    for part, expected in (("images", values), ("masks", mask)):
        stored = read_volume(folder / "fixed" / "set" / part / f"case_{number}.nii.gz")
        assert np.abs(stored.affine - AFFINE).max() < 1e-5
        assert (stored.image[..., 0].transpose(2, 1, 0) == expected).all()
    assert nibabel.load(stored.path).get_data_dtype() == np.uint8


def test_stored_integers_keep_type_and_scaling(tmp_path):
    node = sets.volumes(tmp_path / "set")
    file = tmp_path / "set" / "images" / "case_0.nii.gz"
    raw = np.random.default_rng(0).integers(-900, 900, (8, 9, 6)).astype(np.int16)
    stored = nibabel.Nifti1Image(raw[::-1], np.diag([-1, 1, 1, 1]) @ AFFINE)
    stored.header.set_data_dtype(np.int16)
    stored.header.set_slope_inter(0.37, 5)
    nibabel.save(stored, file)
    _repaired(node, tmp_path, tmp_path / "fixed")
    after = nibabel.load(tmp_path / "fixed" / "set" / "images" / "case_0.nii.gz")
    assert "".join(nibabel.aff2axcodes(after.affine)) == "RAS"
    assert after.get_data_dtype() == np.int16
    assert (after.dataobj.get_unscaled() == raw).all()
    assert (after.dataobj.slope, after.dataobj.inter) == (np.float32(0.37), 5)


def test_other_formats_are_copied_and_named(tmp_path):
    node = sets.volumes(tmp_path / "set")
    for folder in ("images", "masks"):
        file = tmp_path / "set" / folder / "case_0.nii.gz"
        file.write_bytes(file.read_bytes()[:60])
    done, _ = _repaired(node, tmp_path, tmp_path / "fixed")
    assert set(done) == {NOT_REPAIRED}
