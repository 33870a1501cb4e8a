"""Masks of volumes: in the frame of the file, whatever the layout."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from densekit import DenseModel, Predictor
from densekit.app.errors import UsageError
from densekit.app.prediction.sources import by_case, find_volumes, volume_names
from densekit.data import read_volume
from densekit.data.medical.volumes import read_channels
from tests.unit.app.predicting import checkpoint_of, predict
from tests.unit.data.medical_files import write_series
from tests.unit.inference.segmenter import pixels, tiny_segmenter

AFFINE = np.array([[-1.5, 0.1, 0, 20], [0, 2, 0.2, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])


def nifti(path: Path, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Writes a volume (x, y, z) with an oblique affine and returns it as (z, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = pixels(1, *shape, seed=seed)[0].numpy()
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0).copy(), AFFINE)
    image.header["descrip"] = b"scanner 7"
    nibabel.save(image, path)
    return values


def volume_segmenter() -> DenseModel:
    model = tiny_segmenter(
        dims=3,
        dtype="float32",
        intensity={"kind": "range", "low": 0, "high": 80},
        spacing=[3, 3, 3],
    )
    model.info |= {"mean": [0.0], "std": [1.0]}
    return model.float()


def test_a_dicom_folder_comes_back_in_its_own_frame(tmp_path: Path) -> None:
    values = pixels(1, 6, 14, 12)[0].numpy().astype(np.uint16)
    scan = write_series(tmp_path / "in" / "scan", values)
    several = np.stack([pixels(1, 9, 8, 8)[0].numpy()] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(several, AFFINE), tmp_path / "in" / "two_channels.nii.gz")
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1  # the other is no image for it
    volume, mask = read_volume(scan), nibabel.load(tmp_path / "o" / "masks" / "scan.nii.gz")
    assert mask.shape == volume.shape[::-1] == (12, 14, 6)
    np.testing.assert_allclose(mask.affine, volume.affine, rtol=1e-6, atol=1e-6)
    assert len(np.unique(np.asarray(mask.dataobj))) > 1
    assert (tmp_path / "o" / "overlays" / "scan.jpg").is_file()


def test_volumes_come_back_in_their_own_frame(tmp_path: Path) -> None:
    model = volume_segmenter()
    values = nifti(tmp_path / "in" / "case.1.nii.gz", 9, 14, 12)
    nifti(tmp_path / "in" / "deep" / "b.nii", 5, 8, 8)
    (tmp_path / "in" / "c.nii.gz").write_bytes(b"broken")
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1  # one was broken
    source = nibabel.load(tmp_path / "in" / "case.1.nii.gz")
    mask = nibabel.load(tmp_path / "o" / "masks" / "case.1.nii.gz")
    np.testing.assert_array_equal(mask.affine, source.affine)
    assert mask.shape == source.shape == values.T.shape
    assert mask.header["descrip"] == source.header["descrip"]
    found = np.asarray(mask.dataobj)
    assert len(np.unique(found)) > 1
    (result,) = Predictor(model)([tmp_path / "in" / "case.1.nii.gz"])
    np.testing.assert_array_equal(result["segmentation"]["mask"].transpose(2, 1, 0), found)
    assert (tmp_path / "o" / "masks" / "deep" / "b.nii.gz").is_file()
    assert (tmp_path / "o" / "overlays" / "case.1.jpg").is_file()
    entries = json.loads((tmp_path / "o" / "images.json").read_text())
    assert [(e["depth"], e["height"], e["width"]) for e in entries] == [(9, 14, 12), (5, 8, 8)]


def test_broken_scans_are_listed_and_the_others_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    nifti(folder / "a.nii.gz", 6, 8, 8)
    whole = (folder / "a.nii.gz").read_bytes()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), folder / "z.nii")
    damaged = bytearray(whole)
    damaged[200:240] = bytes(40)
    broken = {"b.nii.gz": whole[:-200], "c.nii.gz": bytes(damaged), "d.nii": b"", "e.mha": b"text"}
    broken |= {"f.nrrd": b"", "g.hdr": b"text", "h/1.dcm": b""}
    for name, content in broken.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, folder, tmp_path / "o") == 1
    found = sorted(file.name for file in (tmp_path / "o" / "masks").iterdir())
    assert found == ["a.nii.gz", "z.nii.gz"]
    said = capsys.readouterr().out
    assert "7 images could not be read:" in said
    flat = said.replace("\n", "")
    assert all(f"{folder / name}: " in flat for name in broken)


def test_channels_of_a_case_are_files(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, channels=2, dtype="float32")
    for number in (0, 1):
        nifti(tmp_path / "in" / f"p7_000{number}.nii.gz", 6, 8, 8, seed=number)
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 0
    assert [file.name for file in (tmp_path / "o" / "masks").iterdir()] == ["p7.nii.gz"]
    files, _ = find_volumes(str(tmp_path / "in"))
    with pytest.raises(UsageError, match=r"p7_0000 and so on: expected 3 files, .*, got 2"):
        by_case(files, 3)
    assert by_case(files, 1) == [[file] for file in files]


def test_channels_of_a_patient_are_named_files(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, channels=2, dtype="float32", orientation="RAS")
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    for patient in ("P1", "P2"):
        for seed, name in enumerate(("flair", "t1", "seg")):
            nifti(tmp_path / "in" / patient / f"{patient}_{name}.nii.gz", 6, 8, 8, seed=seed)
    nifti(tmp_path / "in" / "P2" / "P2_t1.nii.gz", 5, 8, 8)  # another grid
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o", "channels=[t1,flair]") == 1
    (file,) = (tmp_path / "o" / "masks").rglob("*.nii.gz")
    assert file.name == "P1_t1.nii.gz"
    paths = [tmp_path / "in" / "P1" / f"P1_{name}.nii.gz" for name in ("t1", "flair")]
    (result,) = Predictor(model)([read_channels(paths)])
    found = np.asarray(nibabel.load(file).dataobj).T
    np.testing.assert_array_equal(found, result["segmentation"]["mask"])
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o", "channels=[t2,flair]") == 2


def test_one_series_of_a_folder(tmp_path: Path) -> None:
    values = pixels(1, 6, 14, 12)[0].numpy().astype(np.uint16)
    folder = write_series(tmp_path / "in" / "scan", values)
    for file in list(folder.iterdir()):
        file.rename(folder / f"t1_{file.name}")
    tags = {"SeriesInstanceUID": "1.2.9", "SeriesDescription": "T2"}
    write_series(folder, values[:4], **tags)
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1
    for series, depth in (("T1", 6), ("T?", None), ("1.2.9", 4)):
        code = predict(checkpoint, tmp_path / "in", tmp_path / series, f"series={series}")
        assert code == (depth is None)
        for file in (tmp_path / series / "masks").glob("*"):
            assert nibabel.load(file).shape == (12, 14, depth)


def test_regions_become_one_map_of_labels(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, dtype="float32", classes=2, multilabel=True, orientation="RAS")
    nifti(tmp_path / "in" / "a.nii.gz", 6, 8, 8)
    (result,) = Predictor(model)([tmp_path / "in" / "a.nii.gz"])
    first, second = result["segmentation"]["mask"]
    assert first.any()
    assert second.any()
    assert predict(checkpoint_of(model, tmp_path / "p.ckpt"), tmp_path / "in", tmp_path / "p") == 0
    planes = np.asarray(nibabel.load(tmp_path / "p" / "masks" / "a.nii.gz").dataobj)
    np.testing.assert_array_equal(planes.T, [first, second])
    model.info["heads"]["segmentation"]["regions_class_order"] = [2, 300]
    assert predict(checkpoint_of(model, tmp_path / "m.ckpt"), tmp_path / "in", tmp_path / "o") == 0
    labels = np.asarray(nibabel.load(tmp_path / "o" / "masks" / "a.nii.gz").dataobj).T
    np.testing.assert_array_equal(labels, np.where(second == 1, 300, np.where(first == 1, 2, 0)))
    legend = json.loads((tmp_path / "o" / "classes.json").read_text())["segmentation"]
    assert [entry["value"] for entry in legend] == [2, 300]


@pytest.mark.parametrize("order", [None, [2, 300]])
def test_a_huge_volume_is_streamed_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[int] | None
) -> None:
    regions = {"classes": 2, "multilabel": True} if order else {}
    model = tiny_segmenter(dims=3, dtype="float32", orientation="LPS", **regions)
    if order:
        model.info["heads"]["segmentation"]["regions_class_order"] = order
    nifti(tmp_path / "in" / "a.nii.gz", 20, 16, 12)
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    window = "inferer={_target_:densekit.inference.SlidingWindow,window:[8,8,8]}"
    assert predict(checkpoint, tmp_path / "in", tmp_path / "whole", window) == 0
    monkeypatch.setattr("densekit.app.prediction.huge_volumes.LARGE", 0)
    monkeypatch.setattr("densekit.data.medical.nifti.SLAB", 100)
    assert predict(checkpoint, tmp_path / "in", tmp_path / "streamed", window) == 0
    files = [file for file in (tmp_path / "whole").rglob("*") if file.is_file()]
    assert {"a.nii.gz", "a.jpg", "images.json"} <= {file.name for file in files}
    for file in files:
        other = tmp_path / "streamed" / file.relative_to(tmp_path / "whole")
        assert other.read_bytes() == file.read_bytes(), file
    assert not list((tmp_path / "streamed").glob(".partial-*"))


def test_a_volume_that_must_be_whole_and_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nifti(tmp_path / "in" / "a.nii.gz", 20, 16, 12)
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    monkeypatch.setattr("densekit.app.prediction.huge_volumes.LARGE", 0)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1
    assert "a.nii.gz: expected a volume that fits into memory" in capsys.readouterr().out


def test_which_volumes(tmp_path: Path) -> None:
    for name in ("a/1.dcm", "a/2.dcm", "b/IM0001", "c/d/x.nii.gz", "c/d/x.nii", "c/notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 128 + (b"DICM" if "IM" in name else b"text"))
    files, root = find_volumes(str(tmp_path))
    assert [str(file.relative_to(root)) for file in files] == [
        "a",
        "b",
        "c/d/x.nii",
        "c/d/x.nii.gz",
    ]
    names = volume_names([[file] for file in files], root)
    assert list(map(str, names)) == ["a.jpg", "b.jpg", "c/d/x.nii.jpg", "c/d/x.nii.gz.jpg"]
    assert find_volumes(str(tmp_path / "a")) == ([tmp_path / "a"], tmp_path)
    assert find_volumes(f"{tmp_path}/[ab]") == ([tmp_path / "a", tmp_path / "b"], tmp_path)
    for source in (str(tmp_path / "c" / "nothing"), str(tmp_path / "*.nii")):
        with pytest.raises(UsageError, match="source: expected .* got"):
            find_volumes(source)
