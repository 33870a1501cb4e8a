"""Volumes as samples: frames, labels, parts, regions of interest."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from densekit.data import MedicalVolumes, Source, SplitRule, read_volume
from densekit.data.medical.labels import LabelTable
from densekit.types import check_batch
from tests.unit.data.medical_files import (
    AFFINE,
    PATIENTS,
    UPRIGHT,
    brats,
    write_msd,
    write_nifti,
    write_series,
)


def test_msd_by_its_description(msd):
    data = MedicalVolumes(msd)
    assert data.describe() == {
        "names": ["background", "part 1", "part 2"],
        "ids": [0, 1, 2],
        "num_classes": 3,
        "channels": 1,
        "dtype": "float32",
        "background": True,
        "multilabel": False,
        "spatial_dims": 3,
        "orientation": "RAS",
    }
    sample = data[2]
    stored = nibabel.load(msd / "imagesTr" / "case_02.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(sample["image"][..., 0], stored.T)
    assert sample["mask"].dtype == np.uint8
    assert sample["mask"].shape == sample["truth"]["size"] == (7, 6, 5)
    assert sample["meta"]["original_size"] == (7, 6, 5)
    assert sample["truth"]["spacing"] == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0)[::-1])
    assert data.sizes.tolist() == [[7, 6, 5]] * 6


def test_intensity_and_spacing_make_the_network_frame(msd):
    rule = {"kind": "zscore"}
    data = MedicalVolumes(msd, intensity=rule, spacing=[1.25, None, 0.55])
    described = data.describe()
    assert (described["intensity"], described["spacing"]) == (rule, [1.25, None, 0.55])
    sample = data[0]
    assert sample["image"].shape == (14, 6, 10, 1)
    assert sample["mask"].shape == (14, 6, 10)
    assert sample["truth"]["mask"].shape == sample["meta"]["original_size"] == (7, 6, 5)
    assert abs(sample["image"].mean()) < 0.2


def test_gaps_of_stored_values_are_closed_and_kept(tmp_path):
    data = MedicalVolumes(write_msd(tmp_path, 1, values=(0, 3, 200)))
    assert data.ids == [0, 3, 200]
    stored = nibabel.load(tmp_path / "labelsTr" / "case_00.nii.gz").get_fdata().T
    np.testing.assert_array_equal(np.array(data.ids)[data[0]["mask"]], stored)


def test_loaders_make_valid_batches(msd):
    split = SplitRule(every=3, val_every=2)
    parts = [
        MedicalVolumes(msd, s, splits=split, intensity={"kind": "zscore"})
        for s in ("train", "val", "test")
    ]
    source = Source(*parts, heads=["segmentation"], batch_size=2)
    assert source.describe()["mean"] == [0.0]
    batch = next(iter(source.train_loader()))
    check_batch(batch)
    assert batch["mask"].shape == (2, 7, 6, 5)
    [one, two] = source.eval_loader("test")
    assert [t["image_id"] for b in (one, two) for t in b["truth"]] == [0, 3]


def nnunet(root, labels, channels=2):
    rng = np.random.default_rng(0)
    for case in ("p1_a", "p1_b", "p2_a"):
        for channel in range(channels):
            image = rng.normal(size=(4, 5, 6)).astype(np.float32)
            write_nifti(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", image, UPRIGHT)
        mask = rng.integers(0, 4, (4, 5, 6), dtype=np.uint8)
        write_nifti(root / "labelsTr" / f"{case}.nii.gz", mask, UPRIGHT)
    names = {str(c): f"sequence {c}" for c in range(channels)}
    said = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(said))
    return root


def test_nnunet_raw_layout(tmp_path):
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 3}
    data = MedicalVolumes(nnunet(tmp_path, labels))
    assert [case.name for case in data.cases] == ["p1_a", "p1_b", "p2_a"]
    assert (data.channels, data.names, data.ids) == (2, ["background", "a", "b"], [0, 1, 2])
    sample = data[1]
    second = read_volume(tmp_path / "imagesTr" / "p1_b_0001.nii.gz")
    np.testing.assert_array_equal(sample["image"][..., 1], second.image[..., 0])
    stored = read_volume(tmp_path / "labelsTr" / "p1_b.nii.gz").image[..., 0]
    np.testing.assert_array_equal(sample["mask"] == 255, stored == 3)


def test_nnunet_regions_are_multilabel(tmp_path):
    data = MedicalVolumes(nnunet(tmp_path, {"background": 0, "whole": [1, 2, 3], "core": [3]}))
    described = data.describe()
    assert (described["names"], described["num_classes"]) == (["whole", "core"], 2)
    assert (described["multilabel"], described["background"]) == (True, False)
    stored = read_volume(tmp_path / "labelsTr" / "p1_a.nii.gz").image[..., 0]
    np.testing.assert_array_equal(data[0]["mask"], [stored > 0, stored == 3])


def test_missing_channel_file(tmp_path):
    root = nnunet(tmp_path, {"background": 0, "a": 1})
    (root / "imagesTr" / "p2_a_0001.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=r"expected existing files, got 1 of 9 missing .*p2_a_0001\.nii\.gz"
    ):
        MedicalVolumes(root)


def test_folders_of_pairs_and_dicom(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (5, 4, 6), dtype=np.uint16)
    write_series(tmp_path / "images" / "anna", values)
    write_series(tmp_path / "masks" / "anna", (values > 50).astype(np.uint16))
    data = MedicalVolumes(tmp_path, labels={"background": 0, "tumour": 1})
    np.testing.assert_array_equal(data[0]["truth"]["mask"], values > 50)
    with pytest.raises(
        ValueError, match=r"MedicalVolumes\.labels: expected class names .* does not name"
    ):
        MedicalVolumes(tmp_path)
    shutil.move(tmp_path / "masks" / "anna", tmp_path / "masks" / "ann")
    with pytest.raises(
        ValueError, match=r"images: .* 1 missing \(first: 'ann'\); did you mean 'anna'"
    ):
        MedicalVolumes(tmp_path, labels={"background": 0, "tumour": 1})


def test_table_of_pairs_with_patients(tmp_path):
    root = nnunet(tmp_path / "data", {"background": 0})
    lines = ["image_0,image_1,mask,patient"]
    for case in ("p1_a", "p1_b", "p2_a"):
        images = ",".join(f"data/imagesTr/{case}_000{c}.nii.gz" for c in (1, 0))
        lines.append(f"{images},data/labelsTr/{case}.nii.gz,{case[:2]}")
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(lines))
    labels = {"background": 0, "a": 1, "b": 2, "c": 3}
    data = MedicalVolumes(table, "test", splits=SplitRule(folds=2), labels=labels)
    assert {case.patient for case in data.cases} in ({"p1"}, {"p2"})
    first = MedicalVolumes(table, labels=labels)[0]["image"]
    other = MedicalVolumes(root, labels=labels)[0]["image"]
    np.testing.assert_array_equal(first, other[..., ::-1])
    table.write_text("picture,mask\na,b")
    with pytest.raises(ValueError, match=r"cases\.csv: expected columns `mask` .* got .*'picture'"):
        MedicalVolumes(table, labels=labels)


def test_values_without_a_class_are_listed(tmp_path):
    root = write_msd(tmp_path, 1, values=(0, 1, 2))
    data = MedicalVolumes(root, labels={"background": 0, "part": 1})
    with pytest.raises(ValueError, match=r"case_00\.nii\.gz: expected .*'part': \[1\].* got \[2\]"):
        data[0]


@pytest.mark.parametrize(
    ("values", "listed"),
    [
        ([0.0, 0.5, 1.0], r"\[0\.5\]"),
        ([-1.0, 70000.0, 1.0], r"\[-1\.0, 70000\.0\]"),
        ([7.0, 7.5, 0.0], r"\[7, 7\.5\]"),
    ],
)
def test_values_that_are_no_classes(values, listed):
    table = LabelTable({"background": 0, "part": 1}, "labels")
    with pytest.raises(ValueError, match=f"m.nii: expected .* got {listed}"):
        table.encode(np.array(values)[:, None, None], "m.nii")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "a": "x"}, r"labels\.a: expected whole numbers"),
        ({"background": 0, "a": 0}, r"one value each"),
        ({"background": 0, "a": -1}, r"labels\.a: expected whole numbers"),
        ({"background": True}, r"labels\.background: expected whole numbers"),
        ({"ignore": 3}, r"no class at all"),
    ],
)
def test_wrong_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        LabelTable(labels, "labels")


def test_mismatches_are_found_when_it_is_built(msd):
    mask = np.zeros((5, 6, 8), dtype=np.uint8)
    write_nifti(msd / "labelsTr" / "case_03.nii.gz", mask, UPRIGHT)
    message = (
        r"labelsTr/case_03\.nii\.gz: expected 7 x 6 x 5 .*imagesTr/case_03\.nii\.gz, got 8 x 6"
    )
    with pytest.raises(ValueError, match=message):
        MedicalVolumes(msd)
    write_nifti(msd / "labelsTr" / "case_03.nii.gz", mask[..., :7], np.eye(4))
    with pytest.raises(
        ValueError, match=r"case_03.*expected the voxel positions of .*imagesTr/case_03"
    ):
        MedicalVolumes(msd)
    write_nifti(msd / "labelsTr" / "case_03.nii.gz", mask[..., :7], UPRIGHT)
    pair = np.zeros((5, 6, 7, 2), dtype=np.float32)
    write_nifti(msd / "imagesTr" / "case_03.nii.gz", pair, UPRIGHT)
    with pytest.raises(
        ValueError, match=r"case_03\.nii\.gz: expected 1 channel .*case_00.*, got 2"
    ):
        MedicalVolumes(msd)
    (msd / "imagesTr" / "case_03.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"dataset\.json: .* got 1 of 12 missing .*case_03"):
        MedicalVolumes(msd)


def test_mixed_orientations_are_said(msd, caplog):
    for folder, dtype in (("imagesTr", np.float32), ("labelsTr", np.uint8)):
        write_nifti(msd / folder / "case_04.nii.gz", np.zeros((5, 6, 7), dtype), AFFINE)
    MedicalVolumes(msd)
    assert not caplog.text
    assert MedicalVolumes(msd, orientation=None).describe()["orientation"] is None
    assert "1 of 6 volumes are stored in another orientation" in caplog.text
    assert "case_04.nii.gz (ALS)" in caplog.text


def test_what_is_no_data_set(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(ValueError, match=r"expected a folder with dataset\.json .*, got scans"):
        MedicalVolumes(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json: expected JSON, got"):
        MedicalVolumes(tmp_path)
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(ValueError, match=r"dataset\.json: expected at least one case"):
        MedicalVolumes(tmp_path)


def test_wrong_arguments(msd):
    with pytest.raises(ValueError, match=r"split: expected 'all' without `splits`, got 'train'"):
        MedicalVolumes(msd, "train")
    with pytest.raises(ValueError, match=r"MedicalVolumes\.spacing: expected three millimetres"):
        MedicalVolumes(msd, spacing=[1, 1])
    with pytest.raises(ValueError, match=r"intensity\.kind: .* got 'zscor'; did you mean 'zscore'"):
        MedicalVolumes(msd, intensity={"kind": "zscor"})


def roi_of(shape):
    roi = np.zeros(shape, np.uint8)
    roi[1:-1] = 255
    return roi


def with_roi(root, layout):
    """A data set of each layout whose masks of what counts are called `fov`."""
    if layout == "patients":
        brats(root, prefixed=False)
        files = [root / patient / "fov.nii.gz" for patient in PATIENTS]
    elif layout == "nnunet":
        nnunet(root, {"background": 0, "a": 1, "b": 2, "c": 3})
        files = [root / "fov" / f"{case}.nii.gz" for case in ("p1_a", "p1_b", "p2_a")]
    else:
        write_msd(root, 3, (4, 5, 6))
        names = [f"case_{i:02d}.nii.gz" for i in range(3)]
        files = [root / "fov" / name for name in names]
    for file in files:
        write_nifti(file, roi_of((4, 5, 6)), UPRIGHT)
    if layout == "msd":
        said = json.loads((root / "dataset.json").read_text())
        for row, name in zip(said["training"], names, strict=True):
            row["fov"] = f"fov/{name}"
        (root / "dataset.json").write_text(json.dumps(said))
    if layout == "pairs":
        (root / "imagesTr").rename(root / "images")
        (root / "labelsTr").rename(root / "masks")
        (root / "dataset.json").unlink()
    if layout == "table":
        (root / "dataset.json").unlink()
        rows = [f"imagesTr/{n},labelsTr/{n},fov/{n}" for n in names]
        (root / "t.csv").write_text("\n".join(["image,mask,fov", *rows]))
        return root / "t.csv", files
    return root, files


@pytest.mark.parametrize("layout", ["patients", "nnunet", "msd", "pairs", "table"])
def test_what_lies_outside_the_region_of_interest_does_not_count(tmp_path, layout):
    root, files = with_roi(tmp_path, layout)
    labels = {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    rule = {"labels": labels} if layout != "nnunet" else {}
    images = {"channels": ["flair"]} if layout == "patients" else {}
    plain = MedicalVolumes(root, **rule, **images)[1]
    sample = MedicalVolumes(root, roi="fov", **rule, **images)[1]
    inside = roi_of((4, 5, 6)).T > 0
    pairs = [(sample["mask"], plain["mask"]), (sample["truth"]["mask"], plain["truth"]["mask"])]
    for found, expected in pairs:
        np.testing.assert_array_equal(found[~inside], 255)
        np.testing.assert_array_equal(found[inside], expected[inside])
    write_nifti(files[1], roi_of((4, 5, 7)), UPRIGHT)
    with pytest.raises(
        ValueError, match=rf"{files[1].name}: expected 6 x 5 x 4 voxels .* got 7 x 5 x 4"
    ):
        MedicalVolumes(root, roi="fov", **rule, **images)
    files[1].unlink()
    with pytest.raises(ValueError, match=r"missing|expected a volume 'fov'"):
        MedicalVolumes(root, roi="fov", **rule, **images)
    with pytest.raises(ValueError, match=r"fovea"):
        MedicalVolumes(root, roi="fovea", **rule, **images)


def test_regions_without_a_region_of_interest_are_ignored_in_every_plane(tmp_path):
    root, _ = with_roi(tmp_path, "nnunet")
    regions = {"background": 0, "whole": [1, 2, 3], "core": [3]}
    mask = MedicalVolumes(root, roi="fov", labels=regions)[0]["mask"]
    outside = np.broadcast_to(roi_of((4, 5, 6)).T == 0, mask.shape)
    np.testing.assert_array_equal(mask == 255, outside)


def test_a_series_of_each_folder_by_its_description(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (3, 4, 6), dtype=np.uint16)
    for number, patient in enumerate(("anna", "bert")):
        tags = {"SeriesInstanceUID": f"1.{number}", "SeriesDescription": "T1 [a]"}
        folder = write_series(tmp_path / "images" / patient, values, **tags)
        for file in list(folder.iterdir()):
            file.rename(folder / f"t1_{file.name}")
        tags = {"SeriesInstanceUID": f"2.{number}", "SeriesDescription": f"T2 axial {number}"}
        write_series(folder, values + 100, **tags)
        write_series(tmp_path / "masks" / patient, (values > 50).astype(np.uint16))
    labels = {"background": 0, "part": 1}
    with pytest.raises(
        ValueError, match=r"images/anna: expected one series per folder, got 2; choose one by"
    ):
        MedicalVolumes(tmp_path, labels=labels)
    for series, offset in (("T1 [a]", 0), ("T2*", 100), ("T2 axial ?", 100)):
        data = MedicalVolumes(tmp_path, labels=labels, series=series)
        assert data[1]["image"].min() == values.min() + offset
    with pytest.raises(
        ValueError, match=r"images/bert: series: expected .* got '1\.0'.*T2 axial 1"
    ):
        MedicalVolumes(tmp_path, labels=labels, series="1.0")
    with pytest.raises(
        ValueError, match=r"images/anna: expected one series named 'T\*' per folder, got 2"
    ):
        MedicalVolumes(tmp_path, labels=labels, series="T*")


def test_order_of_regions(tmp_path):
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    root = nnunet(tmp_path, regions)
    assert "regions_class_order" not in MedicalVolumes(root).describe()
    said = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(said | {"regions_class_order": [1, 2, 3]}))
    assert MedicalVolumes(root).describe()["regions_class_order"] == [1, 2, 3]
    other = MedicalVolumes(root, regions_class_order=[2, 1, 4])
    assert other.describe()["regions_class_order"] == [2, 1, 4]
    for wrong in ([1, 2], [0, 1, 2], [1, 2, "3"]):
        with pytest.raises(ValueError, match=r"regions_class_order: expected one whole number"):
            MedicalVolumes(root, regions_class_order=wrong)
    (root / "dataset.json").write_text(json.dumps(said | {"labels": {"background": 0, "a": 1}}))
    with pytest.raises(ValueError, match=r"regions_class_order: .* for no regions"):
        MedicalVolumes(root, regions_class_order=[1])


def test_spacings_of_another_unit_are_refused_before_memory_is_asked_for(msd):
    with pytest.raises(ValueError, match=r"case_00\.nii\.gz: spacing: expected up to 2147483648"):
        MedicalVolumes(msd, spacing=[0.001, 0.001, 0.001])


@pytest.mark.parametrize("labels", [["a", "b"], "background", 3])
def test_labels_of_dataset_json_are_a_mapping(msd, labels):
    said = json.loads((msd / "dataset.json").read_text())
    (msd / "dataset.json").write_text(json.dumps(said | {"labels": labels}))
    with pytest.raises(ValueError, match=r"dataset\.json: labels: expected names"):
        MedicalVolumes(msd)
    (msd / "dataset.json").write_text(json.dumps(said | {"labels": None}))
    with pytest.raises(ValueError, match=r"dataset\.json does not name the classes"):
        MedicalVolumes(msd)
