from __future__ import annotations

import nibabel
import numpy as np
import pytest

from densekit.data import MedicalVolumes, VolumeSlices
from densekit.data.medical.slices import slice_stack
from tests.unit.data.medical_files import UPRIGHT, write_msd, write_nifti


@pytest.fixture
def root(tmp_path):
    return write_msd(tmp_path / "msd", 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_stored_volume(root, axis):
    data = VolumeSlices(MedicalVolumes(root), axis)
    stored = nibabel.load(root / "imagesTr" / "case_01.nii.gz").get_fdata(dtype=np.float32).T
    labels = nibabel.load(root / "labelsTr" / "case_01.nii.gz").get_fdata().T
    count = stored.shape[axis]
    assert len(data) == 2 * count
    sample = data[count + 2]
    np.testing.assert_array_equal(sample["image"][..., 0], stored.take(2, axis))
    np.testing.assert_array_equal(sample["mask"], labels.take(2, axis))
    np.testing.assert_array_equal(sample["truth"]["mask"], labels.take(2, axis))
    assert sample["meta"]["original_size"] == tuple(data.sizes[count + 2]) == sample["mask"].shape
    assert len(sample["truth"]["spacing"]) == 2
    assert sample["meta"]["path"].endswith("case_01.nii.gz#2")


def test_neighbours_are_channels_and_the_edge_repeats():
    image = np.arange(5.0)[:, None, None, None] + np.array([0.0, 100])
    first = slice_stack(image, 0, 0, 2)
    assert first.shape == (1, 1, 10)
    assert first.ravel().tolist() == [0, 100, 0, 100, 0, 100, 1, 101, 2, 102]
    assert slice_stack(image, 0, 4, 1).ravel().tolist() == [3, 103, 4, 104, 4, 104]


def test_description_says_how_to_slice(root):
    data = VolumeSlices(MedicalVolumes(root), axis=1, neighbours=1)
    described = data.describe()
    assert described["slices"] == {"axis": 1, "neighbours": 1}
    assert (described["channels"], described["spatial_dims"]) == (3, 2)
    assert data[0]["image"].shape == (7, 5, 3)


def test_only_slices_with_a_class(root):
    mask = np.zeros((5, 6, 7), dtype=np.uint8)
    mask[1, 2, 4] = 2
    write_nifti(root / "labelsTr" / "case_00.nii.gz", mask, UPRIGHT)
    data = VolumeSlices(MedicalVolumes(root), foreground_only=True)
    assert len(data) == 1 + 7
    assert data[0]["mask"][2, 1] == 2
    for case in ("case_00", "case_01"):
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", mask * 0, UPRIGHT)
    with pytest.raises(ValueError, match=r"expected slices with foreground, got none"):
        VolumeSlices(MedicalVolumes(root), foreground_only=True)


def test_in_plane_resampling_keeps_each_slices_truth(root, tmp_path):
    volumes = MedicalVolumes(root, spacing=[None, 0.35, 0.55], cache=tmp_path / "cache")
    sample = VolumeSlices(volumes)[3]
    assert sample["image"].shape[:2] == sample["mask"].shape == (12, 10)
    assert sample["truth"]["mask"].shape == sample["meta"]["original_size"] == (6, 5)


def test_wrong_arguments(root):
    with pytest.raises(ValueError, match=r"expected null for axis 0, which is sliced"):
        VolumeSlices(MedicalVolumes(root, spacing=[1, 1, 1]))
    with pytest.raises(ValueError, match=r"VolumeSlices\.axis"):
        VolumeSlices(MedicalVolumes(root), axis=3)
    with pytest.raises(ValueError, match=r"VolumeSlices\.neighbours"):
        VolumeSlices(MedicalVolumes(root), neighbours=-1)
