"""`engine=` and `precision=` of `eval` and `predict`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from densekit.app.cli import main
from densekit.inference.engines import exported, inductor, onnxruntime
from densekit.inference.engines.compiled import Compiled
from densekit.inference.export.base import PredictionsByName, as_program
from tests.unit.app.small_run import SMALL_RUN
from tests.unit.inference.programs import Compiler


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lets int8 be the model in float32; receives what scales would have been measured on."""
    models: list[Any] = []
    pairs: list[Any] = []

    def export(made: Any, model: Any, example: Any, file: Path, seen: Any) -> None:
        models.append(model)
        pairs.extend(seen)
        file.touch()

    def opened(file: Path) -> Any:
        return as_program(PredictionsByName(models[0]))

    monkeypatch.setattr(exported, "export_int8", export)
    monkeypatch.setattr(onnxruntime, "FORMAT", replace(onnxruntime.FORMAT, open=opened))
    return pairs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    assert main(["train", *SMALL_RUN, f"paths.runs={folder}"]) == 0
    return next(folder.glob("*/*/metrics.json")).parent


def metrics(run: Path, output: Path, *words: str) -> dict[str, Any]:
    assert main(["eval", f"checkpoint={run}", f"output={output}", *words]) == 0
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return found


def test_eval_measures_the_predictions_of_an_engine(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compilers = []

    def build(model: Any, precision: str, cache: Any) -> Compiled:
        assert cache.folder.name.endswith(".ckpt.engines")
        compilers.append(Compiler(model))
        return Compiled("inductor", model, precision, compilers[-1])

    eager = metrics(run, tmp_path / "eager")
    monkeypatch.setattr(inductor, "build", build)
    found = metrics(run, tmp_path / "inductor", "engine=inductor")
    assert compilers[0].shapes == [(8, 64, 64)]
    assert "engine: inductor, precision: fp32; the loss is not computed" in capsys.readouterr().err
    lost = {name for name in eager if "loss" in name or name.endswith(("/ce", "/cross_entropy"))}
    assert found.keys() == eager.keys() - lost
    intervals, expected = found.pop("intervals"), eager["intervals"]
    assert found == pytest.approx({key: eager[key] for key in found})
    assert intervals.keys() == expected.keys()
    assert all(intervals[name] == pytest.approx(expected[name]) for name in expected)


def test_int8_is_calibrated_once_on_training_images(
    run: Path, tmp_path: Path, calibrated: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "own.ckpt")
    words = [f"checkpoint={tmp_path / 'own.ckpt'}", "engine=onnxruntime", "precision=int8"]
    command = ["predict", *words, f"source={tmp_path / 'red.png'}", f"output={tmp_path / 'out'}"]

    assert main([*command, "data.scenes.train=null"]) == 2  # it is moved, or was never here
    assert "others that data=NAME or calibration=FOLDER names, got: " in capsys.readouterr().err
    assert main(command) == 0
    assert "engine: onnxruntime, precision: int8" in capsys.readouterr().out
    assert [image.shape for image, _ in calibrated] == [(8, 3, 64, 64)] * 2  # 16 in batches of 8
    assert main([*command, "data.scenes.train=null"]) == 0  # the program is kept
    assert len(calibrated) == 2
    measured = metrics(tmp_path / "own.ckpt", tmp_path / "eval", *words[1:])
    assert "test/classification/accuracy" in measured
    assert len(calibrated) == 4  # for batches of 8 images


def test_int8_is_calibrated_on_pictures(run: Path, tmp_path: Path, calibrated: list[Any]) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"{name}.png")
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "own.ckpt")
    words = [f"checkpoint={tmp_path / 'own.ckpt'}", "engine=onnxruntime", "precision=int8"]
    command = ["predict", *words, f"source={tmp_path / 'a.png'}", f"output={tmp_path / 'out'}"]
    assert main([*command, f"calibration={tmp_path}"]) == 0
    assert len(calibrated) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["calibration=."], "precision: expected int8 with calibration=., got fp32"),
        (["data=bccd"], "precision: expected int8 with data=bccd, got fp32"),
        (["precision=int8", "calibration=none"], "calibration: expected an existing file or folde"),
        (
            ["precision=int8", "calibration=.", "data=bccd"],
            "calibration, data: expected one of the two, got data=bccd too",
        ),
    ],
)
def test_calibration_that_cannot_be(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    command = ["predict", f"checkpoint={run}", f"source={tmp_path}", f"output={tmp_path / 'out'}"]
    assert main([*command, "engine=onnxruntime", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine=inductr"], "engine: expected one of eager, inductor, "),
        (["precision=32-true"], "precision: expected one of fp32, bf16, fp16, int8, got 32-true"),
        (
            ["precision=int8"],
            "precision: expected fp32 or bf16 or fp16 with engine=eager, got 'int8'",
        ),
        (
            ["engine=inductor", "precision=fp16"],
            "precision: expected fp32 or bf16 with engine=inductor, got 'fp16'",
        ),
    ],
)
def test_what_an_engine_lacks_is_refused_before_any_work(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    for command in (["eval"], ["predict", f"source={tmp_path}"]):
        output = tmp_path / command[0]
        assert main([*command, f"checkpoint={run}", f"output={output}", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "eval" / "metrics.json").exists()
