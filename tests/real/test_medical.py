"""Real MRI: what is written lies where its source lies, and the sets load whole."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from densekit.data import (
    MedicalVolumes,
    SplitRule,
    VolumeSlices,
    read_volume,
    write_mask,
)
from densekit.data.medical.grids import check_same_grid
from densekit.data.medical.volumes import read_channels, read_grid

pytestmark = pytest.mark.real


def world(affine, index):
    return nibabel.affines.apply_affine(affine, index)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("t1/t1w.nii.gz", "t1/t1w_seg-manual.nii.gz"),
        ("t2/t2.nii.gz", "t2/t2_seg-manual.nii.gz"),
        ("t2/t2_fake_lesion.nii.gz", "t2/t2_fake_lesion_lesion_seg.nii.gz"),
        ("t2s/t2s.nii.gz", "t2s/t2s_gmseg_manual.nii.gz"),
        ("t2s/t2s_uncropped.nii.gz", "t2s/t2s_uncropped_gmseg_manual.nii.gz"),
    ],
)
def test_spinal_cord_masks_go_back_where_they_were(folder, tmp_path, image, mask):
    root = folder("mr_spinal_cord")
    volume, stored = read_volume(root / image), read_volume(root / mask)
    check_same_grid(volume, stored)
    values = stored.image[..., 0].astype(np.uint8)
    assert values.any()
    write_mask(tmp_path / "m.nii.gz", values, volume)
    source, manual = nibabel.load(root / image), nibabel.load(root / mask)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, source.affine, rtol=0, atol=1e-6)
    assert written.shape == source.shape
    for key in ("qform_code", "sform_code", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(written.header[key], source.header[key])
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(manual.dataobj))
    voxel = np.argwhere(np.asarray(manual.dataobj))[0]
    there = world(manual.affine, voxel)
    np.testing.assert_allclose(world(written.affine, voxel), there, rtol=0, atol=1e-3)


def test_brain_series_and_its_tumour_are_one_grid(folder, tmp_path):
    root = folder("mr_brain_dicom")
    scan, tumour = read_volume(root / "T1post"), read_volume(root / "MaskTumor")
    assert scan.shape == tumour.shape == (24, 320, 260)
    np.testing.assert_allclose(scan.spacing, [6.5, 0.6875, 0.6875], atol=1e-4)
    check_same_grid(scan, tumour)
    mask = (tumour.image[..., 0] > 0).astype(np.uint8)
    assert 1000 < mask.sum() < 50_000
    # contrast agent: the tumour is brighter than the same place of the other side of the head
    values = scan.image[..., 0]
    assert values[mask == 1].mean() > 1.2 * values[mask[:, :, ::-1] == 1].mean()
    write_mask(tmp_path / "m.nii.gz", mask, scan)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, scan.affine, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, mask)


def test_brain_voxel_is_where_its_own_slice_says(folder, tmp_path):
    import pydicom

    root = folder("mr_brain_dicom") / "T1post"
    grid = read_grid(root)
    places = {
        tuple(header.ImagePositionPatient): header
        for header in (pydicom.dcmread(f, stop_before_pixels=True) for f in root.iterdir())
    }
    assert len(places) == 24
    for z in (0, 11, 23):
        lps = world(grid.affine, [0, 0, z]) * [-1, -1, 1]
        nearest = min(places, key=lambda p: np.linalg.norm(np.subtract(p, lps)))
        np.testing.assert_allclose(nearest, lps, rtol=0, atol=1e-3)
        pixels = pydicom.dcmread(places[nearest].filename).pixel_array
        np.testing.assert_array_equal(read_volume(root).image[z, ..., 0], pixels)


def test_sequences_of_another_grid_are_refused(folder):
    root = folder("mr_spinal_cord")
    with pytest.raises(ValueError, match=r"t2\.nii\.gz: expected 77 x 76 .*t1w.*, got 52 x 55"):
        read_channels([root / "t1/t1w.nii.gz", root / "t2/t2.nii.gz"])


def test_hippocampus(folder, tmp_path):
    root, split = folder("hippocampus"), SplitRule(every=5, val_every=13)
    rule = {"kind": "zscore"}
    parts = {
        name: MedicalVolumes(root, name, splits=split, intensity=rule, cache=tmp_path)
        for name in ("train", "val", "test")
    }
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 192,
        "val": 16,
        "test": 52,
    }
    names = [{case.patient or case.name for case in part.cases} for part in parts.values()]
    assert len(set.union(*names)) == 260
    assert parts["test"].names == ["background", "anterior", "posterior"]
    for index in range(0, 52, 5):
        sample = parts["test"][index]
        assert sample["image"].shape[:3] == sample["mask"].shape == sample["truth"]["size"]
        assert set(np.unique(sample["mask"])) == {0, 1, 2}
        assert abs(sample["image"].mean()) < 1e-3
        assert abs(sample["image"].std() - 1) < 1e-3


def test_hippocampus_as_slices(folder):
    root, split = folder("hippocampus"), SplitRule(every=65)
    volumes = MedicalVolumes(root, "test", splits=split)
    data = VolumeSlices(volumes, axis=1, neighbours=1, foreground_only=True)
    assert 40 < len(data) < volumes.sizes[:, 1].sum()
    assert data[7]["image"].shape[-1] == 3
    assert data[7]["mask"].any()


def test_a_dicom_series_and_its_nifti_of_any_orientation_are_one_volume(folder, tmp_path):
    scan = read_volume(folder("mr_brain_dicom") / "T1post")
    tumour = read_volume(folder("mr_brain_dicom") / "MaskTumor")
    for name, codes in (("a", "RAS"), ("b", "LPS"), ("c", "PIR")):
        for kind, volume in (("images", scan), ("masks", tumour)):
            file = nibabel.Nifti1Image(volume.image[..., 0].T, scan.affine)
            spaces = nibabel.orientations
            turn = spaces.ornt_transform(
                spaces.io_orientation(file.affine), spaces.axcodes2ornt(codes)
            )
            (tmp_path / kind).mkdir(exist_ok=True)
            nibabel.save(file.as_reoriented(turn), tmp_path / kind / f"{name}.nii")
    for kind, series in (("images", "T1post"), ("masks", "MaskTumor")):
        (tmp_path / kind / "dicom").symlink_to(folder("mr_brain_dicom") / series)
    values = sorted({0, *np.unique(tumour.image).astype(int).tolist()})
    labels = {f"value {value}": value for value in values}
    samples = list(MedicalVolumes(tmp_path, labels=labels))
    assert len(samples) == 4
    for sample in samples[1:]:
        np.testing.assert_array_equal(sample["image"], samples[0]["image"])
        np.testing.assert_array_equal(sample["mask"], samples[0]["mask"])
