"""`densekit plan` on small volumes: a proposal that composes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from densekit.app.cli import main
from densekit.app.compose import compose
from tests.unit.data.medical_files import write_nifti

CASES = 12


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A Decathlon folder of the name that the group `data` knows; slices 4 mm apart."""
    folder, affine = tmp_path / "hippocampus", np.diag([1.0, 1.0, 4.0, 1.0])
    training = []
    for case in range(CASES):
        image = np.random.default_rng(case).normal(size=(36, 40, 16)).astype(np.float32)
        mask = np.zeros(image.shape, np.uint8)
        mask[10:20, 10:20, 4:8] = 1
        mask[20:24, 10:20, 4:8] = 2
        paths = {key: f"./{key}sTr/case_{case:03d}.nii.gz" for key in ("image", "label")}
        write_nifti(folder / paths["image"], image, affine)
        write_nifti(folder / paths["label"], mask, affine)
        training.append(paths)
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    content = {"modality": {"0": "MRI"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_the_proposal_composes_and_fits_what_was_seen(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(volumes)
    file = volumes / "conf" / "experiment" / "hippocampus_planned.yaml"
    words = [f"paths.data={volumes}", f"paths.runs={volumes / 'runs'}"]
    assert main(["plan", "data=hippocampus", f"output={file}", "cases=3", *words]) == 0
    assert "3 looked at" in capsys.readouterr().out
    plan = yaml.safe_load(file.read_text())
    assert plan["data"]["hippocampus"]["train"] == {
        "spacing": [4.0, 1.0, 1.0],
        "intensity": {"kind": "zscore"},
    }
    assert plan["backbone"] == {"stem": "full", "width": 32, "hold": [2, 0, 0]}
    assert plan["inferer"]["window"] == [16, 40, 40]
    cfg = compose(["experiment=hippocampus_planned", *words]).cfg
    assert cfg.data.hippocampus.train_transform.steps.patch.size == [16, 40, 40]
    assert cfg.inferer.window == [16, 40, 40]
    assert not (volumes / "runs").exists(), "a plan leaves nothing behind"


def test_a_file_that_is_there_stays(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = volumes / "mine.yaml"
    file.write_text("mine")
    words = ["plan", "data=hippocampus", f"output={file}", f"paths.data={volumes}", "cases=1"]
    assert main(words) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "data=NAME is missing"), (["data=scenes"], "2 spatial dimensions, accepted are volumes")],
)
def test_what_cannot_be_planned(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err
