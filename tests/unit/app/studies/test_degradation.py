"""The answer of the residual study, on made-up errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from densekit.app.studies.degradation import (
    Outcome,
    Outcomes,
    Twin,
    answers,
    contrast,
    ends,
    gradient_ratio,
    read_outcome,
    verdict,
)
from densekit.app.studies.report import report, table

SHOWN = {
    ("plain", 8): [0.01, 0.02, 0.03],
    ("plain", 56): [0.40, 0.50, 0.60],
    ("residual", 8): [0.01, 0.02, 0.03],
    ("residual", 56): [0.01, 0.03, 0.02],
}


def outcomes_of(errors: dict[tuple[str, int], list[float]]) -> Outcomes:
    signal = {key: [0.5, 0.25, 0.125] for key in ("variance", "similarity", "gradient")}
    return {
        Twin(net, depth, seed): Outcome(
            error, error + 0.1, [(10, 0.8), (20, error)], {"start": signal, "end": signal}
        )
        for (net, depth), values in errors.items()
        for seed, error in enumerate(values)
    }


def test_a_contrast_has_two_standard_errors() -> None:
    found = contrast([[1.0, 2.0, 3.0]], [[0.0, 0.0, 3.0]])
    assert found.value == 1.0
    # Variances 1 and 3, three values each: the squared error of the difference is 1/3 + 3/3.
    assert found.margin == pytest.approx(2 * math.sqrt(4 / 3))
    assert not found.above
    assert contrast([[1.0, 1.0]], [[0.0, 0.0]]).above
    assert not contrast([[1.0, 1.0]], [[1.0, 1.0]]).above
    four = contrast([[1.0, 3.0], [5.0, 5.0]], [[1.0, 1.0], [2.0, 4.0]])
    assert (four.value, four.margin) == (3.0, pytest.approx(2 * math.sqrt(1 + 0 + 0 + 1)))


def test_the_effect_is_shown() -> None:
    found = answers(outcomes_of(SHOWN), 8, 56)
    assert [answer.shown for answer in found] == [True, True, True]
    assert verdict(found).startswith("Degradation is shown")
    assert str(found[0]).startswith("a plain net of 56 layers trains worse than one of 8: shown")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({("plain", 56): [0.02, 0.01, 0.03]}, [False, True, False]),  # no degradation
        ({("residual", 56): [0.40, 0.50, 0.60]}, [True, False, False]),  # shortcuts do not help
        ({("plain", 56): [0.0, 0.5, 0.01]}, [False, True, False]),  # one seed of three
        ({("residual", 56): [0.08, 0.09, 0.10]}, [True, False, True]),  # help, but not all the way
    ],
    ids=["none", "both", "noise", "partly"],
)
def test_what_is_not_shown_is_said(
    change: dict[tuple[str, int], list[float]], expected: list[bool]
) -> None:
    found = answers(outcomes_of(SHOWN | change), 8, 56)
    assert [answer.shown for answer in found] == expected
    assert verdict(found) == "Degradation is NOT shown at these settings."
    assert "NOT shown" in "\n".join(map(str, found))


def test_missing_seeds_are_not_judged() -> None:
    one = answers(outcomes_of({net: values[:1] for net, values in SHOWN.items()}), 8, 56)
    assert [answer.shown for answer in one] == [None] * 3
    assert one[0].contrast.value == pytest.approx(0.39)
    gone = answers(outcomes_of({**SHOWN, ("plain", 56): []}), 8, 56)
    assert [answer.shown for answer in gone] == [None, True, None]
    assert verdict(gone).startswith("Not judged")


def test_ends_are_depths_of_both_kinds() -> None:
    assert ends(outcomes_of(SHOWN | {("plain", 110): [0.9]})) == (8, 56)
    with pytest.raises(ValueError, match=r"at least two depths .*got \[8\]"):
        ends(outcomes_of({("plain", 8): [0.1], ("plain", 20): [0.1], ("residual", 8): [0.1]}))


def test_table_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = outcomes_of(SHOWN)
    assert gradient_ratio(outcomes, "plain", 8, "start") == pytest.approx(4)
    row = next(line for line in table(outcomes) if line.startswith("| plain    | 56"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("plain", "56", "3", "50.0 ± 5.8", "60.0 ± 5.8", "4"),
    ]
    report(outcomes, (8, 56), tmp_path)
    assert row in capsys.readouterr().out
    assert row in (tmp_path / "degradation.md").read_text(encoding="utf-8")
    assert len((tmp_path / "degradation.csv").read_text().splitlines()) == 13
    content = json.loads((tmp_path / "degradation.json").read_text())
    assert [answer["shown"] for answer in content["answers"]] == [True] * 3
    assert content["answers"][0]["difference"] == pytest.approx(0.48)
    assert (tmp_path / "degradation.png").stat().st_size > 1000


def test_a_run_is_complete_with_its_test_and_its_signal(tmp_path: Path) -> None:
    assert read_outcome(tmp_path, "classification") is None
    (tmp_path / "signal.json").write_text("{}")
    figures = {"val/classification/accuracy": 0.75}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    assert read_outcome(tmp_path, "classification") is None
    figures["test/classification/accuracy"] = 0.5
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    found = read_outcome(tmp_path, "classification")
    assert found is not None
    assert (found.train_error, found.test_error, found.curve) == (0.25, 0.5, [])
    with pytest.raises(ValueError, match="expected val/other/accuracy"):
        read_outcome(tmp_path, "other")
