"""Classification from the command line: pictures, series and DNA; train, eval and predict."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.cli import main
from densekit.data import CategoryScenes
from tests.unit.data.classification.test_dataset import write_ts

QUIET = [
    *("seed=3", "precision=32-true", "trainer.accelerator=cpu", "callbacks.progress=null"),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"),
    *("backbone.width=8", "logger=csv"),
]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def trained(words: list[str], name: str) -> Path:
    assert main(["train", f"experiment={name}", *words, *QUIET]) == 0
    (run,) = (Path("runs") / name).iterdir()
    return run


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lengths = {"train": 8, "val": 4, "test": 6}
    small = [f"data.scenes.{split}.length={count}" for split, count in lengths.items()]
    mixed = "{_target_:densekit.data.RandomChoice,transforms:{a:{_target_:densekit.data.MixUp},"
    mixed += "b:{_target_:densekit.data.CutMix}}}"
    small += ["data.scenes.batch_size=4", f"+data.scenes.batch_transform={mixed}"]
    run = trained([*small, "trainer.max_epochs=1"], "quickstart_classification")
    figures = json.loads((run / "metrics.json").read_text())
    assert {"accuracy", "mean_accuracy", "ECE"} <= {key.rpartition("/")[2] for key in figures}
    assert 0 <= figures["test/classification/accuracy"] <= 1
    cases = rows_of(run / "cases_test.csv")
    right = np.mean([case["category"] == case["predicted"] for case in cases])
    assert figures["test/classification/accuracy"] == pytest.approx(right)
    for name in ("loader", "predictions", "confusion_val", "confusion_test"):
        assert (run / f"{name}.png").is_file(), name

    scenes = CategoryScenes("test", 3, size=[64, 64])
    for number in range(3):
        Image.fromarray(scenes[number]["image"]).save(tmp_path / f"{number}.png")
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["predict", f"checkpoint={checkpoint}", "source=*.png", "output=out"]) == 0
    found = rows_of(tmp_path / "out" / "categories.csv")
    assert [Path(row["image"]).name for row in found] == ["0.png", "1.png", "2.png"]
    assert all(row["predicted"] == row["name_1"] for row in found)
    total = sum(float(found[0][f"probability_{n}"]) for n in range(1, 6))
    assert total == pytest.approx(1, abs=1e-4)
    assert (tmp_path / "out" / "overlays" / "1.jpg").is_file()
    assert not list((tmp_path / "out").glob("results*.json"))
    assert [row["predicted"] for row in found] == [case["predicted"] for case in cases[:3]]


def test_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("TRAIN", 6), ("TEST", 5)):
        slopes = [(-1) ** i for i in range(count)]
        rows = [np.arange(40) * slope + rng.normal(0, 3, 40) for slope in slopes]
        texts = [",".join(f"{v:.3f}" for v in row) for row in rows]
        labels = ["up" if slope > 0 else "down" for slope in slopes]
        lines = [f"{text}:{label}" for text, label in zip(texts, labels, strict=True)]
        write_ts(tmp_path / "ucr" / "GunPoint", f"GunPoint_{split}.ts", lines)
    words = ["train", "experiment=ucr", f"paths.data={tmp_path}", "resize={min_size:32}"]
    assert main(words) == 2
    assert "data.ucr: resize: expected null for series" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    run = trained([f"paths.data={tmp_path}", "trainer.max_steps=10"], "ucr")
    figures = json.loads((run / "metrics.json").read_text())
    assert 0 <= figures["test/classification/accuracy"] <= 1
    cases = rows_of(run / "cases_test.csv")
    assert (run / "loader.png").is_file()
    assert (run / "predictions.png").is_file()

    source = tmp_path / "ucr" / "GunPoint" / "GunPoint_TEST.ts"
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["predict", f"checkpoint={checkpoint}", f"source={source}", "output=out"]) == 0
    found = rows_of(tmp_path / "out" / "categories.csv")
    assert [row["predicted"] for row in found] == [case["predicted"] for case in cases]
    assert found[3]["image"].endswith("GunPoint_TEST.ts#3")
    assert (tmp_path / "out" / "overlays" / "GunPoint_TEST_4.jpg").is_file()
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert images[0]["length"] == 40

    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "a.npy", np.arange(50) ** 2.0)
    np.save(tmp_path / "raw" / "b.npy", np.arange(50) ** 2 * 100.0 + 7)  # in another unit
    words = [f"checkpoint={checkpoint}", "source=raw", "output=from_raw"]
    assert main(["predict", *words]) == 0
    first, second = rows_of(tmp_path / "from_raw" / "categories.csv")
    assert float(first["probability_1"]) == pytest.approx(float(second["probability_1"]), abs=1e-4)


def test_dna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "splice").mkdir()
    rows = []
    for number in range(200):
        letters = rng.choice(list("ACGT"), 60)
        label = ("EI", "IE", "N")[number % 3]
        letters[28:32] = {"EI": list("GTAA"), "IE": list("CAGG"), "N": letters[28:32]}[label]
        rows.append(f"{label},   {number},  {''.join(letters)}")
    (tmp_path / "splice" / "splice.data").write_text("\n".join(rows) + "\n")
    run = trained([f"paths.data={tmp_path}", "trainer.max_epochs=1"], "splice")
    figures = json.loads((run / "metrics.json").read_text())
    assert 0 <= figures["test/classification/accuracy"] <= 1
    assert len(rows_of(run / "cases_test.csv")) == 20  # a tenth

    (tmp_path / "new.fasta").write_text(f">a\n{'ACGT' * 15}\n>b\n{'ACGN' * 15}\n>c\nACGX\n")
    words = [f"checkpoint={run / 'checkpoints' / 'last.ckpt'}", "source=new.fasta", "output=out"]
    assert main(["predict", *words]) == 1  # X is no letter
    (tmp_path / "new.fasta").write_text(f">a\n{'ACGT' * 15}\n>b\n{'ACGN' * 15}\n")
    words[-1] = "output=again"
    assert main(["predict", *words]) == 0
    assert len(rows_of(tmp_path / "again" / "categories.csv")) == 2
