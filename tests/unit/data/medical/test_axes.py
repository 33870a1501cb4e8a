"""Volumes of any axis order and direction are one volume to the network, and stay what they are."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import torch

from densekit.data import MedicalVolumes, Source, VolumeSlices, read_volume
from densekit.data.medical.axes import check_orientation
from densekit.inference import Predictor
from densekit.inference.restore import restore
from tests.unit.data.medical_files import (
    AFFINE,
    UPRIGHT,
    write_msd,
    write_nifti,
    write_series,
)
from tests.unit.inference.segmenter import pixels, tiny_segmenter

ORDERS = [
    [*zip(axes, signs, strict=True)]
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def pair(folder, order=None, name="case_00.nii.gz", affine=UPRIGHT):
    """A folder of pairs with one scan, stored in another order of axes."""
    values = np.random.default_rng(0).normal(100, 20, (5, 6, 7)).astype(np.float32)
    mask = (values > 120).astype(np.uint8) + (values > 140)
    for kind, data in (("images", values), ("masks", mask.astype(np.uint8))):
        file = nibabel.Nifti1Image(data, affine)
        file = file if order is None else file.as_reoriented(np.array(order))
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(file, folder / kind / name)
    return folder


LABELS = {"background": 0, "left": 1, "right": 2}


@pytest.mark.parametrize("spacing", [None, [1.25, None, 0.55]])
def test_all_48_orders_of_axes_are_one_volume(tmp_path, spacing):
    rule = {"labels": LABELS, "intensity": {"kind": "zscore"}, "spacing": spacing}
    upright = MedicalVolumes(pair(tmp_path / "ras"), **rule)[0]
    for number, order in enumerate(ORDERS):
        folder = pair(tmp_path / str(number), order)
        data = MedicalVolumes(folder, **rule)
        sample = data[0]
        for key in ("image", "mask"):
            np.testing.assert_array_equal(sample[key], upright[key])
        stored = nibabel.load(folder / "masks" / "case_00.nii.gz")
        np.testing.assert_array_equal(sample["truth"]["mask"], np.asarray(stored.dataobj).T)
        assert sample["truth"]["size"] == sample["meta"]["original_size"] == stored.shape[::-1]
        zooms = np.array(stored.header.get_zooms()[::-1])
        np.testing.assert_allclose(sample["truth"]["spacing"], zooms, rtol=1e-6)
        np.testing.assert_allclose(data.voxel(0), [2.5020, 0.7018, 1.1], atol=1e-3)
        assert data.sizes.tolist() == [[7, 6, 5]]


def test_predictions_come_back_in_the_axes_of_the_file(tmp_path):
    model = tiny_segmenter(dims=3, dtype="float32", spacing=[2, 1, 1], orientation="RAS")
    predictor = Predictor(model.float())
    root = pair(tmp_path / "ras")
    [expected] = predictor([root / "images" / "case_00.nii.gz"])
    mask = nibabel.Nifti1Image(expected["segmentation"]["mask"].T, UPRIGHT)
    assert len(np.unique(mask.dataobj)) > 1
    for number, order in enumerate(ORDERS):
        file = pair(tmp_path / str(number), order) / "images" / "case_00.nii.gz"
        [found] = predictor([file])
        wanted = np.asarray(mask.as_reoriented(np.array(order)).dataobj)
        np.testing.assert_array_equal(found["segmentation"]["mask"].T, wanted)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (20, 24, 1), (1, 20, 24), (20, 24)])
def test_thin_volumes_are_turned(tmp_path, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = tiny_segmenter(dims=3, dtype="float32", orientation="RAS").float()
    for number, signs in enumerate(itertools.product((1, -1), repeat=3)):
        file = write_nifti(tmp_path / f"{number}.nii", values, np.diag([*signs, 1.0]))
        [result] = Predictor(model)([file])
        assert result["segmentation"]["mask"].T.squeeze().shape == np.squeeze(values).shape


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_predictions_of_slices_come_back_too(tmp_path, axis):
    rule = {"axis": axis, "neighbours": 1}
    model = tiny_segmenter(channels=3, dtype="float32", slices=rule, orientation="RAS")
    predictor = Predictor(model.float())
    [expected] = predictor([pair(tmp_path / "ras") / "images" / "case_00.nii.gz"])
    mask = nibabel.Nifti1Image(expected["segmentation"]["mask"].T, UPRIGHT)
    assert len(np.unique(mask.dataobj)) > 1
    for number, order in enumerate(ORDERS[5::9]):
        [found] = predictor([pair(tmp_path / str(number), order) / "images" / "case_00.nii.gz"])
        wanted = np.asarray(mask.as_reoriented(np.array(order)).dataobj)
        np.testing.assert_array_equal(found["segmentation"]["mask"].T, wanted)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("affine", [AFFINE, UPRIGHT], ids=["ALS", "RAS"])
def test_turned_volumes_equal_nibabel(tmp_path, orientation, affine):
    root = write_msd(tmp_path, 1, affine=affine)
    image = MedicalVolumes(root, orientation=orientation)[0]["image"][..., 0]
    stored = nibabel.load(root / "imagesTr" / "case_00.nii.gz")
    spaces = nibabel.orientations
    turn = spaces.ornt_transform(
        spaces.io_orientation(stored.affine), spaces.axcodes2ornt(orientation)
    )
    np.testing.assert_array_equal(image, np.asarray(stored.as_reoriented(turn).dataobj).T)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_turned_volume(tmp_path, axis):
    rule = {"labels": LABELS}
    upright = VolumeSlices(MedicalVolumes(pair(tmp_path / "ras"), **rule), axis, 1)
    order = [(2, -1), (0, 1), (1, -1)]
    turned = VolumeSlices(MedicalVolumes(pair(tmp_path / "other", order), **rule), axis, 1)
    assert len(turned) == len(upright)
    np.testing.assert_array_equal(turned.sizes, upright.sizes)
    for a, b in zip(turned, upright, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["truth"]["mask"], b["truth"]["mask"])
        assert a["truth"]["size"] == b["truth"]["size"] == a["truth"]["mask"].shape
        assert a["truth"]["spacing"] == pytest.approx(b["truth"]["spacing"], rel=1e-6)


def test_evaluation_compares_in_the_axes_of_the_file(tmp_path):
    data = MedicalVolumes(pair(tmp_path, [(2, -1), (0, 1), (1, -1)]), labels=LABELS)
    source = Source(test=data, heads=["segmentation"], mean=[0], std=[1])
    [batch] = source.eval_loader("test")
    classes = np.eye(3, dtype=np.float32)[batch["mask"][0].numpy()]
    logits = torch.from_numpy(np.moveaxis(classes, -1, 0))[None]
    [result] = restore({"segmentation": {"logits": logits}}, batch)
    np.testing.assert_array_equal(result["segmentation"]["mask"], batch["truth"][0]["mask"])


def test_multilabel_planes_are_turned_back(tmp_path):
    root = pair(tmp_path, [(2, -1), (0, 1), (1, -1)])
    data = MedicalVolumes(root, labels={"background": 0, "both": [1, 2], "right": [2]})
    stored = np.asarray(nibabel.load(root / "masks" / "case_00.nii.gz").dataobj).T
    np.testing.assert_array_equal(data[0]["truth"]["mask"], [stored > 0, stored == 2])


def test_dicom_series_are_turned_too(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (5, 4, 6), dtype=np.uint16)
    for kind, stored in (("images", values), ("masks", (values > 50).astype(np.uint16))):
        write_series(tmp_path / kind / "anna", stored)
    sample = MedicalVolumes(tmp_path, labels={"background": 0, "part": 1})[0]
    scan = read_volume(tmp_path / "images" / "anna")
    image = nibabel.Nifti1Image(scan.image[..., 0].T, scan.affine)
    canonical = np.asarray(nibabel.as_closest_canonical(image).dataobj).T
    np.testing.assert_array_equal(sample["image"][..., 0], canonical)
    np.testing.assert_array_equal(sample["truth"]["mask"], values > 50)


def test_a_volume_without_an_orientation_is_refused(tmp_path):
    root = pair(tmp_path)
    for kind in ("images", "masks"):
        file = root / kind / "case_00.nii.gz"
        bare = nibabel.Nifti1Image(np.asarray(nibabel.load(file).dataobj), None)
        nibabel.save(bare, file)
    with pytest.raises(ValueError, match=r"images/case_00\.nii\.gz: expected an orientation.*null"):
        MedicalVolumes(root, labels=LABELS)
    data = MedicalVolumes(root, labels=LABELS, orientation=None)
    assert data[0]["image"].shape == (7, 6, 5, 1)
    model = tiny_segmenter(dims=3, dtype="float32", orientation="RAS").float()
    with pytest.raises(ValueError, match=r"case_00\.nii\.gz: expected an orientation"):
        Predictor(model)([root / "images" / "case_00.nii.gz"])


def test_a_model_that_knows_no_orientation_takes_axes_as_stored_and_says_so(tmp_path, caplog):
    file = write_nifti(tmp_path / "a.nii", pixels(1, 6, 7, 8)[0].numpy())
    predictor = Predictor(tiny_segmenter(dims=3, dtype="float32").float())
    [first, second] = predictor([file, read_volume(file)])
    assert caplog.text.count("does not state the orientation it was trained in") == 1
    assert f"{file} (ALS)" in caplog.text
    [plain] = predictor([read_volume(file).image])
    for result in (first, second):
        np.testing.assert_array_equal(result["segmentation"]["mask"], plain["segmentation"]["mask"])


def test_two_frames_that_differ_are_said_with_both(tmp_path, caplog):
    root = pair(tmp_path)
    for kind in ("images", "masks"):
        file = nibabel.load(root / kind / "case_00.nii.gz")
        file = nibabel.Nifti1Image(np.asarray(file.dataobj), UPRIGHT)
        file.set_qform(UPRIGHT @ np.diag([-1, 1, 1, 1]), code=1)
        nibabel.save(file, root / kind / "case_00.nii.gz")
    MedicalVolumes(root, labels=LABELS)
    assert "1 of 1 volumes have an sform and a qform that differ" in caplog.text
    assert "case_00.nii.gz: sform RAS from (5, -7, 11)" in caplog.text
    assert "qform LAS from" in caplog.text
    caplog.clear()
    model = tiny_segmenter(dims=3, dtype="float32", orientation="RAS").float()
    Predictor(model)([root / "images" / "case_00.nii.gz"])
    assert "the sform is used" in caplog.text
    assert "qform LAS from" in caplog.text


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_equal_frames_are_not_said(tmp_path, scale, caplog):
    affine = UPRIGHT * np.array([[scale] * 4] * 3 + [[1] * 4])
    file = nibabel.Nifti1Image(np.zeros((99, 3, 4), np.uint8), affine)
    file.set_qform(np.diag([scale, scale, 2 * scale, 1]), code=1)
    file.set_sform(np.diag([scale, scale * (1 + 1e-5), 2 * scale, 1]), code=1)
    nibabel.save(file, tmp_path / "a.nii")
    model = tiny_segmenter(dims=3, dtype="float32", orientation="RAS").float()
    Predictor(model)([tmp_path / "a.nii"])
    assert not caplog.text


@pytest.mark.parametrize("wrong", ["RA", "RAA", "RLS", "XYZ", "RASL", 3, ["R", "A", "S"]])
def test_wrong_orientations(wrong):
    with pytest.raises(ValueError, match=r"key: expected one letter each of R or L"):
        check_orientation(wrong, "key")


def test_small_letters_and_none():
    assert check_orientation("lps", "key") == "LPS"
    assert check_orientation(None, "key") is None
