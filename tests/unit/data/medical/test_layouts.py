"""Folders, tables and names in which volumes come."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from densekit.data import MedicalVolumes, SplitRule, read_volume
from tests.unit.data.medical_files import (
    PATIENTS,
    UPRIGHT,
    brats,
    write_msd,
    write_nifti,
    write_series,
)

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
    start = f"{inner}/" if inner else ""
    assert [case.name for case in data.cases] == [f"{start}{patient}" for patient in PATIENTS]
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
    split = SplitRule(every=3, group=r"BraTS20_Training_(\d+)")
    held = MedicalVolumes(root, "test", splits=split, labels=TUMOUR)
    assert [case.patient or case.name[-3:] for case in held.cases] == ["001"]


def test_patients_that_differ_are_named(tmp_path):
    root = brats(tmp_path)
    last = root / PATIENTS[2]
    (last / f"{PATIENTS[2]}_t2.nii.gz").rename(last / f"{PATIENTS[2]}_t3.nii.gz")
    with pytest.raises(ValueError, match=r"_010: expected the volumes flair, t1, t1ce, t2 as in"):
        MedicalVolumes(root, labels=TUMOUR)
    assert MedicalVolumes(root, labels=TUMOUR, channels=["t1"]).channels == 1
    with pytest.raises(ValueError, match=r"_010: expected a volume 't2', got flair, .*; did you"):
        MedicalVolumes(root, labels=TUMOUR, channels=["t2"])
    (last / f"{PATIENTS[2]}_seg.nii.gz").rename(last / "W39_1998.09.19_Segm.nii.gz")
    with pytest.raises(ValueError, match=rf"{PATIENTS[2]}: expected a volume 'seg'"):
        MedicalVolumes(root, labels=TUMOUR, channels=["t1"], mask="seg")
    unnamed = write_nifti(tmp_path / "x" / "P1" / "t1.nii", np.zeros((2, 2, 2))).parents[1]
    with pytest.raises(ValueError, match=r"expected a folder .*`mask` names"):
        MedicalVolumes(unnamed, labels=TUMOUR)
    with pytest.raises(TypeError, match=r"MedicalVolumes\.channels: expected a list"):
        MedicalVolumes(root, labels=TUMOUR, channels="t1")


def test_folders_without_a_volume_are_said(tmp_path, caplog):
    root = brats(tmp_path)
    assert len(MedicalVolumes(root, labels=TUMOUR)) == 3
    assert not caplog.text
    (root / "BraTS20_Training_011").mkdir()
    assert len(MedicalVolumes(root, labels=TUMOUR)) == 3
    assert "1 folders beside those of patients contain no volume (first: Bra" in caplog.text


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


def test_names_begin_with_those_of_folders_in_letters_of_any_size(tmp_path):
    for patient in ("P1", "P2"):
        for name in ("", "_seg"):
            file = tmp_path / "own" / patient / f"{patient.lower()}{name}.nii"
            write_nifti(file, np.zeros((2, 2, 2), np.uint8), UPRIGHT)
        for name in ("ses-1_T1w", "ses-1_seg"):
            file = tmp_path / "bids" / patient / "ses-1" / "anat" / f"{patient}_{name}.nii"
            write_nifti(file, np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    own = MedicalVolumes(tmp_path / "own", labels=TUMOUR, channels=["image"])
    assert [case.images[0].name for case in own.cases] == ["p1.nii", "p2.nii"]
    bids = MedicalVolumes(tmp_path / "bids", labels=TUMOUR, channels=["T1w"])
    assert [case.name for case in bids.cases] == ["P1/ses-1/anat", "P2/ses-1/anat"]


@pytest.mark.parametrize("names", [{"channels": ["t1", "seg"]}, {"channels": ["t1", "t1"]}])
def test_a_volume_is_one_thing(tmp_path, names):
    root = brats(tmp_path)
    with pytest.raises(ValueError, match=r"expected different names for .* got '(seg|t1)' twice"):
        MedicalVolumes(root, labels=TUMOUR, **names)
    with pytest.raises(ValueError, match="got 'seg' twice"):
        MedicalVolumes(root, labels=TUMOUR, mask="seg", roi="seg")


@pytest.mark.parametrize(
    "header", ["Patient", "PATIENT", "patient_id", "PatientID", "subject", "Subject ID"]
)
def test_patients_of_a_table_whatever_the_column_is_called(tmp_path, header):
    rows = [f"image,mask,{header}"]
    for number, patient in enumerate(["Ann  B", "Ann\u00a0B", "Cy", "Di", "Di"]):
        for kind in ("", "m"):
            write_nifti(tmp_path / f"{number}{kind}.nii", np.zeros((2, 2, 2), np.uint8), UPRIGHT)
        rows.append(f"{number}.nii,{number}m.nii,{patient}")
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    parts = [
        MedicalVolumes(table, split, splits=SplitRule(every=3, val_every=2), labels=TUMOUR)
        for split in ("train", "val", "test")
    ]
    assert [[case.name for case in part.cases] for part in parts] == [["3", "4"], ["2"], ["0", "1"]]
    table.write_text("\n".join([*rows, "0.nii,0m.nii,"]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"t\.csv, line 7: expected a value of '{header}', got an empty"
    ):
        MedicalVolumes(table, labels=TUMOUR)
    table.write_text("image,mask,patient,subject\n0.nii,0m.nii,1,1", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected one column of patients, got patient and subj"):
        MedicalVolumes(table, labels=TUMOUR)


def test_sessions_below_a_patient(tmp_path, caplog):
    for patient in ("sub-01", "sub-02"):
        for session in ("pre", "post"):
            for name in ("T1w", "label"):
                file = tmp_path / patient / session / f"{patient}_{name}.nii.gz"
                write_nifti(file, np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    split = SplitRule(every=2, group="(sub-[0-9]+)")
    data = MedicalVolumes(tmp_path, "test", splits=split, labels=TUMOUR)
    assert [case.name for case in data.cases] == ["sub-01/post", "sub-01/pre"]
    assert not caplog.text
    MedicalVolumes(tmp_path, "test", splits=SplitRule(every=2), labels=TUMOUR)
    assert "2 cases in the folder sub-01 count as one patient each" in caplog.text
    write_nifti(tmp_path / "sub-02" / "pre" / "seg.nii", np.zeros((2, 2, 2), np.uint8), UPRIGHT)
    with pytest.raises(ValueError, match="expected one mask per patient, got label and seg"):
        MedicalVolumes(tmp_path, labels=TUMOUR)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"labels": {"0": "bg", "1": "a", "2": "a"}}, "expected every name once, got 'a' twice"),
        ({"labels": {"bg": 0, "a": 1.0}}, r"labels\.a: expected whole numbers .* got 1\.0"),
        ({"labels": {"bg": 0, "a": None}}, r"labels\.a: expected whole numbers .* got None"),
        ({"training": [1]}, "training: expected a list of pairs"),
        ({"training": [{"image": 1, "label": "x"}]}, "training: expected a path as 'image' of 1"),
        ({"file_ending": ".nii.gz"}, "channel_names: expected one name per channel, got None"),
        ({"file_ending": ".nii.gz", "channel_names": 1}, "channel_names: expected .* got 1"),
        (
            {"file_ending": ".nii.gz", "channel_names": ["CT"], "regions_class_order": 3},
            "regions_class_order: expected a list of numbers, got 3",
        ),
    ],
)
def test_what_dataset_json_may_not_say(msd, said, message):
    content = json.loads((msd / "dataset.json").read_text())
    (msd / "dataset.json").write_text(json.dumps(content | said))
    with pytest.raises(ValueError, match=rf"dataset\.json.*{message}"):
        MedicalVolumes(msd)


@pytest.mark.parametrize("modality", ["CT", ["CT"], {"0": "CT"}])
def test_the_first_nnunet_leaves_the_channel_out(msd, modality):
    for file in (msd / "imagesTr").iterdir():
        file.rename(file.with_name(file.name.replace(".nii.gz", "_0000.nii.gz")))
    content = json.loads((msd / "dataset.json").read_text())
    (msd / "dataset.json").write_text(json.dumps(content | {"modality": modality}))
    data = MedicalVolumes(msd)
    assert data.modalities == ("CT",)
    assert [case.name for case in data.cases][:2] == ["case_00", "case_01"]
    assert data.cases[0].images[0].name == "case_00_0000.nii.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": 1.0}, "spacing: expected three millimetres .* got 1.0"),
        ({"spacing": ["1", 1, 1]}, "spacing: expected three millimetres"),
        ({"spacing": [True, 1, 1]}, "spacing: expected three millimetres"),
        ({"intensity": "zscore"}, "intensity: expected a rule .* got 'zscore'"),
        ({"labels": ["a", "b"]}, r"labels: expected names with their values, got \['a', 'b'\]"),
        ({"labels": {"a": 0, "b": None}}, r"labels\.b: expected whole numbers .* got None"),
    ],
)
def test_arguments_of_another_kind_are_named(msd, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MedicalVolumes(msd, **arguments)


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
    with pytest.raises(ValueError, match=rf"{PATIENTS[0]}/flair' again"):
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
    message = f"{place}: expected one volume per name, got {first} and {second}"
    with pytest.raises(ValueError, match=message):
        MedicalVolumes(root, labels={"background": 0, "a": 1})
