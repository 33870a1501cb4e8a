"""Folders, tables and names in which volumes come."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from densekit.data import HoldOut, MedicalVolumes, read_volume
from tests.unit.data.medical_files import (
    PATIENTS,
    UPRIGHT,
    brats,
    write_msd,
    write_nifti,
    write_series,
)


@pytest.fixture
def msd(tmp_path):
    return write_msd(tmp_path / "msd")


TUMOUR = {"background": 0, "tumour": 4}


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("inner", ["", "HGG"])
def test_a_folder_for_each_patient(tmp_path, prefixed, suffix, inner):
    root = brats(tmp_path, prefixed, suffix, inner)
    (root / "name_mapping.csv").write_text("Grade,ID\n")
    (root / ".DS_Store").touch()
    hidden = root / inner / PATIENTS[0]
    (hidden / f"._flair{suffix}").write_bytes(b"Mac OS X")
    data = MedicalVolumes(root, labels=TUMOUR)
    assert tuple(case.name for case in data.cases) == PATIENTS
    assert data.channels == 4
    sample = data[1]
    start = f"{PATIENTS[1]}_" if prefixed else ""
    folder = root / inner / PATIENTS[1]
    for channel, name in enumerate(("flair", "t1", "t1ce", "t2")):
        stored = read_volume(folder / f"{start}{name}{suffix}").image[..., 0]
        np.testing.assert_array_equal(sample["image"][..., channel], stored)
    seg = read_volume(folder / f"{start}seg{suffix}").image[..., 0]
    np.testing.assert_array_equal(sample["mask"], seg == 4)
    chosen = MedicalVolumes(root, labels=TUMOUR, channels=["t1ce", "flair"], mask="seg")
    np.testing.assert_array_equal(chosen[1]["image"], sample["image"][..., [2, 0]])
    split = HoldOut(every=3, group=r"BraTS20_Training_(\d+)")
    held = MedicalVolumes(root, "test", splits=split, labels=TUMOUR)
    assert [case.name for case in held.cases] == [PATIENTS[0]]


def test_patients_that_differ_are_named(tmp_path):
    root = brats(tmp_path)
    last = root / PATIENTS[2]
    (last / f"{PATIENTS[2]}_t2.nii.gz").rename(last / f"{PATIENTS[2]}_t3.nii.gz")
    with pytest.raises(ValueError, match=r"_010: expected the volumes flair, t1, t1ce, t2 as in"):
        MedicalVolumes(root, labels=TUMOUR)
    assert MedicalVolumes(root, labels=TUMOUR, channels=["t1"]).channels == 1
    with pytest.raises(ValueError, match=r"_010: expected a volume called 't2', got none; did you"):
        MedicalVolumes(root, labels=TUMOUR, channels=["t2"])
    (last / f"{PATIENTS[2]}_seg.nii.gz").rename(last / "W39_1998.09.19_Segm.nii.gz")
    with pytest.raises(ValueError, match=rf"{PATIENTS[2]}: expected a volume called 'seg'"):
        MedicalVolumes(root, labels=TUMOUR, channels=["t1"], mask="seg")
    unnamed = write_nifti(tmp_path / "x" / "P1" / "t1.nii", np.zeros((2, 2, 2))).parents[1]
    with pytest.raises(ValueError, match=r"no medical data set.*`mask` says"):
        MedicalVolumes(unnamed, labels=TUMOUR)
    with pytest.raises(TypeError, match=r"MedicalVolumes\.channels: expected a list"):
        MedicalVolumes(root, labels=TUMOUR, channels="t1")


def test_folders_without_a_volume_are_said(tmp_path, caplog):
    root = brats(tmp_path)
    assert len(MedicalVolumes(root, labels=TUMOUR)) == 3
    assert not caplog.text
    (root / "BraTS20_Training_011").mkdir()
    assert len(MedicalVolumes(root, labels=TUMOUR)) == 3
    assert "1 folders beside those of patients hold no volume, the first is Bra" in caplog.text


def test_masks_alone_are_no_data_set(tmp_path):
    write_nifti(tmp_path / "P1" / "seg.nii", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"P1: expected volumes beside seg, got none"):
        MedicalVolumes(tmp_path, labels=TUMOUR)


def test_names_of_volumes_in_a_folder(tmp_path):
    root = tmp_path / "t1"
    for name in ("t1.nii", "t1ce.nii", "t1_flair.nii", "t1 seg.nii"):
        write_nifti(root / name, np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    data = MedicalVolumes(tmp_path, labels=TUMOUR, channels=["t1", "t1ce", "flair"], mask="seg")
    names = [path.name for path in data.cases[0].files]
    assert names == ["t1.nii", "t1ce.nii", "t1_flair.nii", "t1 seg.nii"]


def test_sessions_below_a_patient(tmp_path):
    for patient in ("sub-01", "sub-02"):
        for session in ("pre", "post"):
            for name in ("T1w", "label"):
                file = tmp_path / patient / session / f"{patient}_{name}.nii.gz"
                write_nifti(file, np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    split = HoldOut(every=2, group="(sub-[0-9]+)")
    data = MedicalVolumes(tmp_path, "test", splits=split, labels=TUMOUR)
    assert [case.name for case in data.cases] == [
        f"sub-01/{session}/sub-01_T1w" for session in ("post", "pre")
    ]
    write_nifti(tmp_path / "sub-02" / "pre" / "seg.nii", np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    with pytest.raises(ValueError, match="expected one mask for each patient, got label and seg"):
        MedicalVolumes(tmp_path, labels=TUMOUR)


def test_what_dataset_json_names_is_not_named_again(msd):
    for names in ({"channels": ["t1"]}, {"mask": "seg"}):
        with pytest.raises(
            ValueError, match=r"dataset\.json: expected no `channels` and no `mask`"
        ):
            MedicalVolumes(msd, **names)


def test_tables_and_lists_of_files_of_equal_names(tmp_path):
    root = brats(tmp_path, prefixed=False)
    rows = [f"{p}/flair.nii.gz,{p}/t1.nii.gz,{p}/seg.nii.gz" for p in PATIENTS]
    lines = ["image_0,image_1,mask", *rows]
    (root / "cases.csv").write_text("\n".join(lines))
    data = MedicalVolumes(root / "cases.csv", labels=TUMOUR)
    assert [case.name for case in data.cases] == [f"{p}/flair" for p in PATIENTS]
    (root / "cases.csv").write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match=rf"{PATIENTS[0]}/flair' stands there more than once"):
        MedicalVolumes(root / "cases.csv", labels=TUMOUR)
    (root / "cases.csv").write_text("\n".join(["flair,t1,seg", *lines[1:]]))
    named = MedicalVolumes(root / "cases.csv", labels=TUMOUR, channels=["t1"], mask="seg")
    np.testing.assert_array_equal(named[0]["image"], data[0]["image"][..., 1:])
    rows = [{"image": f"{p}/t2.nii.gz", "label": f"{p}/seg.nii.gz"} for p in PATIENTS]
    said = {"training": rows, "labels": {"0": "b", "4": "t"}}
    (root / "dataset.json").write_text(json.dumps(said))
    assert [case.name for case in MedicalVolumes(root).cases] == [f"{p}/t2" for p in PATIENTS]


@pytest.mark.parametrize("names", [("c01.nii", "c01.nii.gz"), ("c01.nii.gz", "c01")])
@pytest.mark.parametrize("place", ["images", "P1"])
def test_two_volumes_of_one_name_are_refused_with_both(tmp_path, names, place):
    root = write_msd(tmp_path, 1)
    (root / "dataset.json").unlink()
    for folder in {place, "masks"} if place == "images" else {place}:
        (root / folder).mkdir()
        shutil.copy(root / "labelsTr" / "case_00.nii.gz", root / folder / "seg.nii.gz")
    for name in names:
        target = root / place / name
        if "." not in name:
            write_series(target, np.zeros((2, 2, 2), np.uint16))
            continue
        nibabel.save(nibabel.load(root / "labelsTr" / "case_00.nii.gz"), target)
    for folder in ("imagesTr", "labelsTr"):
        shutil.rmtree(root / folder)
    first, second = sorted(names)
    message = f"{place}: expected one volume a name, got {first} and {second}"
    with pytest.raises(ValueError, match=message):
        MedicalVolumes(root, labels={"background": 0, "a": 1})
