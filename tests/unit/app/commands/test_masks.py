"""Segmentation from the command line: train, the table of cases, predict in the scan's frame."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from densekit.app.cli import main
from densekit.data import read_volume
from tests.unit.data.medical_files import write_msd, write_series

QUIET = [
    *("seed=3", "precision=32-true", "trainer.accelerator=cpu", "trainer.max_time=null"),
    *("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "callbacks.progress=null"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def mirror(root: Path, target: Path) -> None:
    """The same anatomy stored from right to left."""
    for file in root.rglob("*.nii.gz"):
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        turned = nibabel.load(file).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
        nibabel.save(turned, place)
    shutil.copy(root / "dataset.json", target)


def test_volumes_to_a_table_and_to_masks_of_a_dicom_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_msd(tmp_path / "data" / "hippocampus", count=14)
    small = ["backbone.width=8", "heads.segmentation.decoder_channels=[8,8,8,8,8]"]
    small += ["data.hippocampus.train_transform.steps.patch.size=[16,16,16]"]
    words = ["experiment=hippocampus_unet3d", f"paths.data={tmp_path / 'data'}", *small]
    assert main(["train", *words, *QUIET]) == 0
    (run,) = (tmp_path / "runs" / "hippocampus_unet3d").iterdir()
    cases = rows_of(run / "cases_test.csv")
    assert len(cases) == 3  # every 5th of 14
    assert {"image_id", "path", "dice"} <= cases[0].keys()
    mean = np.mean([float(case["dice"]) for case in cases])
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["test/segmentation/dice"] == pytest.approx(mean, abs=1e-6)
    assert (run / "loader.png").is_file()
    assert (run / "predictions.png").is_file()

    mirror(tmp_path / "data" / "hippocampus", tmp_path / "mirrored" / "hippocampus")
    checkpoint = run / "checkpoints" / "last.ckpt"
    mirrored = ["data=hippocampus", f"paths.data={tmp_path / 'mirrored'}", "trainer.precision=32"]
    assert main(["eval", f"checkpoint={checkpoint}", "output=a", *mirrored]) == 0
    measured = json.loads(Path("a", "metrics.json").read_text())
    expected = {key: value for key, value in figures.items() if key in measured and "test/" in key}
    assert len(expected) > 10
    assert {key: measured[key] for key in expected} == pytest.approx(
        expected, rel=1e-6, nan_ok=True
    )
    old = torch.load(checkpoint, weights_only=True)
    del old["info"]["orientation"]
    torch.save(old, "old.ckpt")
    capsys.readouterr()
    assert main(["eval", "checkpoint=old.ckpt", "output=b", *mirrored]) == 0
    said = "The checkpoint has no orientation: axes of volumes are taken as stored"
    assert said in " ".join(capsys.readouterr().out.split())
    stored = json.loads(Path("b", "metrics.json").read_text())
    assert stored["test/segmentation/dice"] != pytest.approx(expected["test/segmentation/dice"])
    wrong = ["output=c", *mirrored, "data.hippocampus.test.orientation=LAS"]
    assert main(["eval", f"checkpoint={checkpoint}", *wrong]) != 0
    message = "data.hippocampus: expected orientation RAS, which the checkpoint was trained with"
    assert message in " ".join(capsys.readouterr().err.split())

    values = np.arange(6 * 12 * 10, dtype=np.uint16).reshape(6, 12, 10)
    scan = write_series(tmp_path / "scan", values)
    assert main(["predict", f"checkpoint={checkpoint}", f"source={scan}", "output=out"]) == 0
    mask, volume = nibabel.load(tmp_path / "out" / "masks" / "scan.nii.gz"), read_volume(scan)
    assert mask.shape == volume.shape[::-1]
    np.testing.assert_allclose(mask.affine, volume.affine, rtol=1e-6, atol=1e-6)


SLICES = """
# @package _global_
resize: null
vars:
  volumes:
    _target_: densekit.data.MedicalVolumes
    root: ${paths.data}
    intensity: {kind: zscore}
data:
  slices:
    _target_: densekit.data.Source
    heads: [segmentation]
    train: {_target_: densekit.data.VolumeSlices, volumes: "${vars.volumes}", neighbours: 1}
    val: {_target_: densekit.data.VolumeSlices, volumes: "${vars.volumes}", neighbours: 1}
    test: ${vars.volumes}
    batch_size: 2
"""


def test_slices_are_judged_by_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_msd(tmp_path / "data", count=3)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "slices.yaml").write_text(SLICES)
    words = ["data=slices", "head=unet", "neck=none", "metrics=medical", "backbone=resnet18"]
    words += [f"paths.data={tmp_path / 'data'}", "backbone.width=8", "run_name=slices"]
    words += [
        "optimizer=adamw"
    ]  # norms over two values have gradients that a bounded step survives
    assert main(["train", *words, *QUIET, "trainer.limit_train_batches=2"]) == 0
    (run,) = (tmp_path / "runs" / "slices").iterdir()
    assert len(rows_of(run / "cases_test.csv")) == 3  # volumes
    assert len(rows_of(run / "cases_val.csv")) == 21  # slices
    figures = json.loads((run / "metrics.json").read_text())
    assert np.isfinite(figures["val/loss"])
    assert "test/loss" not in figures
    assert np.isfinite(figures["test/segmentation/dice"])
    source = tmp_path / "data" / "imagesTr" / "case_01.nii.gz"
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["predict", f"checkpoint={checkpoint}", f"source={source}", "output=out"]) == 0
    mask = nibabel.load(tmp_path / "out" / "masks" / "case_01.nii.gz")
    np.testing.assert_array_equal(mask.affine, nibabel.load(source).affine)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.float32), np.eye(4)), "two.nii")
    assert main(["predict", f"checkpoint={checkpoint}", "source=two.nii", "output=other"]) != 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "two.nii: expected 1 channels, got 2; if each channel is a file of its own, `channels="
        in said
    )


@pytest.mark.parametrize("validated", [True, False])
def test_segmentation_quickstart(
    validated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lengths = {"train": 4, "val": 2, "test": 3}
    small = [f"data.scenes.{split}.length={count}" for split, count in lengths.items()]
    small += [f"data.scenes.{split}.size=[64,64]" for split in lengths]
    small = small if validated else [*small, "data.scenes.val=null"]
    assert main(["train", "experiment=quickstart_unet", "backbone.width=8", *small, *QUIET]) == 0
    (run,) = (tmp_path / "runs" / "quickstart_unet").iterdir()
    figures = json.loads((run / "metrics.json").read_text())
    assert 0 <= figures["test/segmentation/mIoU"] <= 1
    assert "test/segmentation/IoU/background" in figures
    assert ("val/segmentation/mIoU" in figures) is validated
    assert (run / "predictions.png").is_file()
    assert len(rows_of(run / "cases_test.csv")) == 3
