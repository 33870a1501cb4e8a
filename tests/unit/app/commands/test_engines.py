"""`engine=` and `precision=` of `eval` and `predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from densekit.app.cli import main
from densekit.inference.engines import inductor
from densekit.inference.engines.compiled import Compiled
from tests.unit.app.small_run import SMALL_RUN
from tests.unit.inference.programs import Compiler


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
    assert {key: found[key] for key in found} == pytest.approx({key: eager[key] for key in found})


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
