"""Expected beside measured results: read, named, compared, asserted."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from densekit.app.cli import main
from densekit.app.errors import UnmetError, UsageError
from densekit.app.run.expectations import (
    Expectation,
    check_names,
    expectations,
    report_expected,
)
from densekit.training.monitors import Logged
from tests.unit.app.small_run import SMALL_RUN

NAME = "test/classification/accuracy"


@pytest.mark.parametrize(
    ("measured", "met"),
    [
        (0.379, True),
        (0.383, True),
        (0.375, True),
        (0.384, False),
        (0.374, False),
        (math.nan, False),
    ],
)
def test_the_tolerance_is_included(measured: float, met: bool) -> None:
    assert Expectation(0.379, 0.004).is_met(measured) == met


@pytest.mark.parametrize(
    "entry",
    [0.4, None, {}, {"value": 0.4}, {"value": 0.4, "tolerance": -1}, [0.4, 0.1], "0.4",
     {"value": "0.4", "tolerance": 0.1}, {"value": math.nan, "tolerance": 0.1},
     {"value": 0.4, "tolerance": 0.1, "tolerence": 0.1}],
)  # fmt: skip
def test_other_entries_are_refused(entry: Any) -> None:
    with pytest.raises(UsageError, match="expected.test/a/AP: expected {value: NUMBER, tolerance"):
        expectations({"test/a/AP": entry})


def test_no_mapping_is_refused() -> None:
    assert expectations(None) == {} == expectations({})
    with pytest.raises(UsageError, match="expected: expected metrics with value and tolerance"):
        expectations([1])


def test_one_stage_is_kept() -> None:
    node = {f"{stage}/a/AP": {"value": 1, "tolerance": 0} for stage in ("val", "test")}
    assert list(expectations(node, ("val",))) == ["val/a/AP"]
    assert list(expectations(node)) == list(node)


def test_misspelt_metrics_are_refused_with_the_nearest() -> None:
    logged = {
        "val": Logged({}, [], None),
        "test": Logged({"test/a/AP": "max", "test/a/AP/cat": "max"}, ["test/b/"], None),
    }
    one = Expectation(1, 1)
    check_names(dict.fromkeys(["test/a/AP", "test/b/whatever", "val/a/AP"], one), logged)
    for wrong in ("test/a/APP", "tset/a/AP", "test/AP"):
        with pytest.raises(UsageError, match=r"expected: .*got '.*'; did you mean 'test/a/AP'\?"):
            check_names({wrong: one}, logged)


def test_all_metrics_are_printed_and_each_unmet_one_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "metrics.json"
    file.write_text('{"test/a": 0.5, "test/b": 0.2, "test/c": null}')
    wanted = {f"test/{name}": Expectation(0.5, 0.1) for name in "abcd"}
    report_expected(wanted, file)
    shown = capsys.readouterr().out
    assert re.search(r"test/a +│ +0\.5000 │ +0\.5 │ +0\.1 │ +within", shown)
    assert re.search(r"test/b +│ +0\.2000 │ +0\.5 │ +0\.1 │ +outside", shown)
    with pytest.raises(UnmetError) as caught:
        report_expected(wanted, file, asserted=True)
    assert str(caught.value).splitlines() == [
        "test/b: expected 0.5 +- 0.1, got 0.2000",
        "test/c: expected 0.5 +- 0.1, got nan",
        "test/d: expected 0.5 +- 0.1, got no such measurement",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that expects one metric to be anything, and one to be impossible."""
    folder = tmp_path_factory.mktemp("expected")
    both = f"{NAME}:{{tolerance:1}},val/classification/accuracy:{{value:2,tolerance:0.5}}"
    words = [*SMALL_RUN, f"paths.runs={folder}", f"expected={{{both}}}"]
    assert main(["train", *words]) == 0
    (made,) = folder.glob("*/*/metrics.json")
    return made.parent


def test_it_is_stored_with_the_run(run: Path) -> None:
    stored = yaml.safe_load((run / "config.yaml").read_text())["expected"]
    assert stored[NAME] == {"value": 0.668, "tolerance": 1}
    assert "val/classification/accuracy" in stored
    assert "Expected results" in (run / "console.log").read_text()


def test_eval_asserts_the_split_it_measures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", f"checkpoint={run}", f"output={tmp_path}", "data.scenes.num_workers=0"]
    words += ["trainer.accelerator=cpu"]
    assert main([*words, "assert_expected=true"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"{NAME} .* 0\.668 .* within", shown)
    assert "val/classification" not in shown
    assert main([*words, "split=val"]) == 0  # printed, not asserted
    assert re.search("val/classification/accuracy .* outside", capsys.readouterr().out)
    assert main([*words, "split=val", "assert_expected=true"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"val/classification/accuracy: expected 2 \+- 0\.5, got 0\.\d{4}$", message)
    assert json.loads((tmp_path / "metrics.json").read_text())


def test_other_data_have_no_expectation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", f"checkpoint={run}", f"output={tmp_path}", "metrics=classification"]
    assert main([*words, "assert_expected=true"]) == 2
    assert "assert_expected: expected metrics under expected, got" in capsys.readouterr().err


def test_a_training_asserts_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL_RUN, f"paths.runs={tmp_path}", "assert_expected=true"]
    assert main(["train", *words, f"expected={{{NAME}:{{value:3}}}}"]) == 1
    assert f"{NAME}: expected 3 +- 0.05, got 0." in capsys.readouterr().err
    assert main(["train", *words, "expected=null"]) == 2
    assert "assert_expected: expected metrics under expected" in capsys.readouterr().err


def test_a_misspelt_metric_stops_a_training_before_its_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "expected={test/classification/acuracy:{value:1,tolerance:0}}"
    assert main(["train", *SMALL_RUN, f"paths.runs={tmp_path}", wrong]) == 2
    assert f"did you mean '{NAME}'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
