"""`densekit explain`: files, tables and refusals, with tiny networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from densekit.app.cli import main
from densekit.app.explanation.passes import Passes
from densekit.artifact import save_artifact
from tests.unit.app.predicting import checkpoint_of
from tests.unit.explain.readers import Corner, model_of
from tests.unit.inference.segmenter import tiny_segmenter

FEW = ("masks=8", "grid=4", "steps=2", "device=cpu", "trust=[tests]")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_of(tiny_segmenter(channels=3), tmp_path_factory.mktemp("model") / "a.ckpt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "Fotos (1)"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "sub/a.png")):
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def explain(checkpoint: Path, source: Path, *more: str) -> int:
    return main(["explain", f"checkpoint={checkpoint}", f"source={source}", *FEW, *more])


def corner(path: Path, **heads: Any) -> Path:
    """A checkpoint of `model_of(Corner)`."""
    where = "tests.unit.explain.readers"
    cfg = {
        "backbone": {"_target_": f"{where}.Halves"},
        "heads": {"category": {"_target_": f"{where}.Corner"}, **heads},
    }
    save_artifact(path, model_of(Corner), yaml.safe_dump(cfg))
    return path


def test_files_of_a_folder(
    segmenter: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    output = tmp_path / "out"
    code = explain(segmenter, photos, f"output={output}", "target=[auto,tumour]", "method=rise")
    assert code == 1  # one is broken
    with (output / "explanations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["picture"]) for row in rows[:2]] == [
        ("a.png", "pictures/a_1.png"),
        ("a.png", "pictures/a_2.png"),
    ]
    assert {row["method"] for row in rows} == {"rise"}
    for row in rows:
        assert np.load(output / row["map"]).shape == (24, 32)
        assert Image.open(output / row["picture"]).width > 32
        assert row["depends_on_weights"] in ("True", "False")
    found = json.loads((output / "explanations.json").read_text())
    assert found["settings"]["masks"] == 8
    assert [row["score"] for row in found["rows"]] == [float(row["score"]) for row in rows]
    gain = found["faithfulness"]["deletion"]
    means = [np.mean([float(row[key]) for row in rows]) for key in ("random_deletion", "deletion")]
    assert gain["gain"] == pytest.approx(means[0] - means[1])
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert isinstance(found["weights"]["passed"], bool)
    printed = capsys.readouterr().out
    assert "rise: 30 predictions per map, 180 for up to 6 maps" in printed
    assert "random weights: " in printed
    assert "1 image could not be read" in printed
    assert "broken.png" in printed


def test_a_run_gets_its_own_folder_and_nothing_is_measured_in_vain(
    photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "corner"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    checkpoint = corner(run / "checkpoints" / "last.ckpt")
    words = ("faithfulness=false", "check_weights=false", "target=corner", "method=layercam")
    assert explain(checkpoint, photos / "a.png", *words) == 0
    found = json.loads((run / "explanations" / "explanations.json").read_text())
    assert (found["faithfulness"], found["weights"]) == ({}, None)
    assert found["rows"][0]["target"] == "corner"
    assert found["rows"][0]["deletion"] is None


def test_a_volume_is_shown_by_its_most_salient_slice(tmp_path: Path) -> None:
    import nibabel

    checkpoint = checkpoint_of(tiny_segmenter(dims=3), tmp_path / "v.ckpt")
    volume = np.random.default_rng(0).integers(0, 80, (8, 12, 16)).astype(np.float32)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    output = tmp_path / "out"
    code = explain(
        checkpoint, tmp_path / "v.nii.gz", f"output={output}", "method=integrated_gradients"
    )
    assert code == 0
    assert np.load(output / "maps" / "v_1.npy").shape == (16, 12, 8)  # z, y, x
    assert (output / "pictures" / "v_1.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["target=cat", "output=o"], "target: expected one of auto, background, organ, tumour"),
        (["method=cam", "output=o"], "method: expected one of auto, gradcam"),
        (["head=seg", "output=o"], "head: expected one of segmentation, got 'seg'"),
        (["levels=[c7]", "output=o"], "levels: expected one of c1, c2, got 'c7'"),
        (["target=99", "output=o"], "target: expected 1 to "),
        (["pair=missing.png", "output=o"], "pair: expected an existing file"),
        (["pair=.", "output=o"], "pair: expected one image, got the folder"),
        (["precision=bf16", "method=gradcam", "output=o"], "engine: expected eager with precision"),
        (["masks=1", "output=o"], "masks: expected a whole number of at least 2"),
        (["mask=100", "output=o"], "did you mean 'masks'"),
        ([], "output: expected a folder, as "),
    ],
)
def test_refused(
    segmenter: Path,
    photos: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(photos.parent)
    assert explain(segmenter, photos, *words) == 2
    assert message in capsys.readouterr().err
    assert not list(photos.parent.glob("o/*/*"))


def test_a_pair_for_a_head_without_embeddings(
    segmenter: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"pair={photos / 'a.png'}", f"output={tmp_path / 'o'}")
    assert explain(segmenter, photos, *words) == 2
    assert "pair: expected a head with embeddings" in capsys.readouterr().err


def test_a_hostile_configuration_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = {"evil": {"_target_": "os.system", "command": "touch hacked"}}
    checkpoint = corner(tmp_path / "evil.ckpt", **mine)
    assert explain(checkpoint, photos, f"output={tmp_path / 'o'}") == 2
    assert "os.system" in capsys.readouterr().err
    assert not Path("hacked").exists()


def test_slices_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(tiny_segmenter(slices={"axis": 0}), tmp_path / "s.ckpt")
    assert explain(checkpoint, photos, f"output={tmp_path / 'o'}") == 2
    assert "expected a network of images or of whole volumes" in capsys.readouterr().err


def test_a_series(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tiny_segmenter(dims=1), tmp_path / "s.ckpt")
    values = "\n".join(str(10 + place % 7) for place in range(24))
    (tmp_path / "a.csv").write_text(values + "\n")
    assert explain(checkpoint, tmp_path / "a.csv", f"output={tmp_path / 'o'}") == 0
    assert np.load(tmp_path / "o" / "maps" / "a_1.npy").shape == (24,)
    assert Image.open(tmp_path / "o" / "pictures" / "a_1.png").width > 480


def test_without_a_terminal_lines_count_the_predictions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densekit.app.explanation.passes.LINE_SECONDS", -1)
    passes = Passes()
    passes.begin("rise", each=10, maps=2)
    passes.advance(4)
    assert capsys.readouterr().err == "explaining  4/20  ETA 0:00:00\n"
