"""A report shows what a run folder holds, whatever the head, and says what is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densekit.app.cli import main
from densekit.app.reports import page as pages
from densekit.app.studies.benchmark.machine import Machine
from densekit.app.studies.benchmark.report import Report, write_report
from densekit.app.studies.benchmark.timing import Measured
from densekit.evaluation import read_evaluation, write_evaluation
from densekit.metrics import CocoMap
from densekit.metrics.analyses import Bars, Curves, Matrix, Suspect, Table
from tests.unit.app.reports.runs import KINDS, NAMES, write_image, write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\ud800'\"&"


def report(*words: Any) -> str:
    """The text of the page that a command writes."""
    assert main(["report", *map(str, words)]) == 0
    return (Path(words[0]) / "report.html").read_text(encoding="utf-8")


def payload(text: str) -> dict[str, Any]:
    found = re.search(r'id="payload">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def section(text: str, title: str) -> str:
    found = re.search(rf'<h2 id="s\d+h">{re.escape(title)}</h2>(.*?)</section>', text, re.DOTALL)
    assert found is not None, title
    return found.group(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_head(kind: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", kind)
    text = report(run)
    of_head = section(text, "x (test)")
    for title in ("Summary", "Training", "Data", "Cost", "Environment", "Configuration"):
        assert section(text, title)
    galleries = payload(text)["galleries"]
    assert galleries[0]["pictures"]
    image = payload(text)["images"][galleries[0]["pictures"][0]["views"][0]["image"]]
    assert image["source"].startswith("data:image/")
    wanted = {"boxes": "Classes, with intervals", "faces": "Unlike pairs of one identity"}
    assert wanted.get(kind, "Worst images") in of_head
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}


def test_overlays(tmp_path: Path) -> None:
    found = payload(report(write_run(tmp_path / "run", "boxes", "masks")))
    views = [(g, v) for g in found["galleries"] for p in g["pictures"] for v in p["views"]]
    boxes, of_boxes = next((g, v) for g, v in views if v["truth"])
    masks, of_masks = next((g, v) for g, v in views if v["masks"])
    assert boxes["classes"]["0"][0] == "cat"
    assert [len(box) for box in (of_boxes["truth"][0], of_boxes["found"][0])] == [5, 6]
    assert found["images"][of_boxes["image"]]["frame"] == [0, 0, 160, 150]
    assert set(masks["classes"]) == {"1"}  # the background is not drawn
    assert of_masks["masks"].startswith("data:image/png;base64,")


def test_worst_first_and_the_slice_is_named(tmp_path: Path) -> None:
    found = payload(report(write_run(tmp_path / "run", "volumes")))
    (gallery,) = (g for g in found["galleries"] if "dice" in g["pictures"][0]["lines"][0])
    values = [float(p["lines"][0].split()[-1]) for p in gallery["pictures"]]
    assert values == sorted(values)
    assert ", slice " in gallery["pictures"][0]["name"]


def test_record(tmp_path: Path) -> None:
    text = report(write_run(tmp_path / "run", "boxes"))
    assert "0123456789" in section(text, "Environment")
    assert "differ from it" in section(text, "Environment")
    assert "2 x thin box" in section(text, "Data")
    cost = section(text, "Cost")
    assert "1,007" in cost
    for measured in ("1,536 MiB", "0.5 (median", "12.5 GFLOP", "forward 44 % of 218 s"):
        assert measured in cost
    assert "densekit benchmark checkpoint=" in cost


def test_two_runs(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", "boxes", "masks")
    second = write_run(tmp_path / "second", "boxes", "masks")
    evaluation = read_evaluation(first / "evaluation_test.npz")
    rows = dict(evaluation.measured[0].metric.computed_rows())
    rows["detections"] = rows["detections"].reshape(-1, 7)[::2].reshape(-1)
    evaluation.measured[0].metric.recompute(rows)
    write_evaluation(second / "evaluation_test.npz", evaluation)
    text = report(first, second, "resamples=20")
    compared = section(text, "Comparison")
    assert "the second run is" in compared or "not distinguishable" in compared
    assert "Images that changed most: x on set" in compared
    views = payload(text)["galleries"][0]["pictures"][0]["views"]
    assert [view["title"] for view in views] == ["first", "second"]
    assert views[0]["image"] == views[1]["image"]
    assert len(views[0]["found"]) > len(views[1]["found"])
    assert "<h3>Parameters: first</h3>" in section(text, "Cost")
    assert "<h3>Parameters: second</h3>" in section(text, "Cost")


def test_runs_of_other_images_are_not_compared(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a", "boxes"), write_run(tmp_path / "b", "boxes", seed=1)
    assert "cannot be compared" in section(report(first, second), "Comparison")
    (second / "evaluation_test.npz").unlink()
    assert "densekit eval checkpoint=" in section(report(first, second), "Comparison")


@pytest.mark.parametrize(
    ("gone", "where", "said"),
    [
        ("evaluation_test.npz", "Summary", "densekit eval checkpoint="),
        ("checkpoints", "Summary", "has no checkpoint"),
        ("metrics.json", "Summary", "has not ended"),
        ("csv", "Training", "no csv/metrics.csv"),
        ("", "Summary", "Nothing has been evaluated yet"),
        ("", "Summary", "densekit train resume="),
        ("run.json", "Environment", "did not record"),
        ("run.json", "Data", "did not record"),
    ],
)
def test_what_is_missing_is_said(gone: str, where: str, said: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "boxes")
    place = run / gone
    if not gone:  # killed before its first validation
        (run / "evaluation_test.npz").unlink()
        (run / "metrics.json").write_text('{"stopped": "SIGTERM"}')
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    assert said in section(report(run), where)


def test_images_that_are_gone(tmp_path: Path) -> None:
    found = payload(report(write_run(tmp_path / "run", "boxes", "volumes", images=False)))
    assert {one["reason"] for one in found["images"].values()} == {"image not found"}
    assert not any(one["source"] for one in found["images"].values())


def test_images_without_anything_to_draw_are_a_table(tmp_path: Path) -> None:
    text = report(write_run(tmp_path / "run", "categories", images=False))
    assert payload(text)["galleries"] == []
    assert re.search(r'<th scope="row">set_\d+\.jpg</th>', section(text, "x (test)"))


def test_benchmarks_in_the_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "masks")
    machine = Machine("a processor", 2, "2.9.0", {})
    row = Measured("densekit", "inductor", "fp32", seconds=0.25, parameters=10, flops=3 * 10**9)
    write_report(Report("densekit benchmark", "predict", "", 5, machine, [row]), run / "b.json")
    shown = section(report(run), "Cost")
    assert "Time and memory by engine" in shown
    assert "densekit/inductor/fp32" in shown
    assert "were not measured" not in shown


def test_no_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "one", "boxes")
    assert main(["report", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert "RUN: expected a run folder" in said
    assert str(tmp_path / "runs" / "one") in said
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(tmp_path / "runs" / "one"), "outptu=x"]) == 2
    assert "output" in capsys.readouterr().err


@pytest.mark.parametrize(
    "record",
    [{"data": 3}, {"data": {"set": 3}}, {"parameters": {"x": 1}}, {"versions": 3, "git": [1]}],
)
def test_a_record_that_somebody_has_changed(record: dict[str, Any], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "categories", images=False)
    (run / "run.json").write_text(json.dumps(record))
    assert section(report(run), "Configuration")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("metrics.json", text) for text in ("{", "[]", '{"intervals": 3}')),
        *(("config.yaml", text) for text in ("a: [", "- 1")),
        ("evaluation_test.npz", "x"),
    ],
)
def test_damaged_files_are_named(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "boxes")
    (run / name).write_text(text)
    assert main(["report", str(run)]) == 2
    assert name in capsys.readouterr().err


def hostile_run(folder: Path) -> Path:
    """A run whose classes, paths and settings are markup."""
    run = write_run(folder / "run", "boxes")
    evaluation = read_evaluation(run / "evaluation_test.npz")
    one = evaluation.measured[0]
    metric = CocoMap([HOSTILE, "dog"])
    values = metric.recompute(one.metric.computed_rows())
    one.metric, one.keys = metric, {name: f"x/{name}" for name in values}
    evaluation.paths["set"] = {i: f"{HOSTILE}{i}.png" for i in evaluation.paths["set"]}
    write_evaluation(run / "evaluation_test.npz", evaluation)
    (run / "config.yaml").write_text(json.dumps({"command": "train", "name": HOSTILE}))
    record = {"command": HOSTILE, "data": {HOSTILE: {"test": {"images": 1, "classes": [HOSTILE]}}}}
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_hostile_names(tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    text = report(run)
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert "<img" not in text
    assert text.count("alert(1)") >= 4  # there, as text
    assert payload(text)["galleries"][0]["classes"]["0"][0] == HOSTILE


class Toy(CocoMap):
    """A plug-in's metric that explains itself."""

    def analyses(self) -> list[Any]:
        line = np.linspace(0, 1, 5)
        return [
            Table(
                "A table", ["class", "share", "share low", "share high"], [["a", 0.5, 0.4, None]]
            ),
            Curves("Some curves", "x", "y", {"a": (line, line**2)}, marked={"a": (0.5, 0.25)}),
            Bars("Some bars", "gain", {"a": 1.0, "b": -0.5, "c": float("nan")}),
            Matrix(
                "A matrix", NAMES, [*NAMES, "nothing"], np.arange(6.0).reshape(2, 3), "Read it."
            ),
        ]

    def suspects(self) -> list[Suspect]:
        image = int(self.image_ids()[0])
        return [Suspect(image, "this looks wrong", 0.9, (10.0, 20.0, 60.0, 50.0))]


class Broken(CocoMap):
    """A plug-in's metric that fails."""

    def analyses(self) -> list[Any]:
        raise ZeroDivisionError("no <b>objects</b>")

    suspects = analyses


def with_metric(run: Path, kind: type[CocoMap], monkeypatch: pytest.MonkeyPatch) -> str:
    """The page of a run whose metric is of another class."""
    from densekit.app.reports import folder

    def read(file: Path, trust: Any) -> Any:
        evaluation = read_evaluation(file, trust)
        one = evaluation.measured[0]
        metric = kind(one.metric.names)
        metric.recompute(one.metric.computed_rows())
        one.metric = metric
        return evaluation

    monkeypatch.setattr(folder, "read_evaluation", read)
    return report(run)


def test_a_plug_in_adds_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = with_metric(write_run(tmp_path / "run", "boxes"), Toy, monkeypatch)
    of_head = section(text, "x (test)")
    for title in ("A table", "Some curves", "Some bars", "A matrix", "Annotations to look at"):
        assert f"<h3>{title}</h3>" in of_head
    assert 'title="cat, nothing: 2 (66.7% of the row)"' in of_head
    assert '<rect class="minus" width="50.0%"' in of_head
    chart = next(c for c in payload(text)["charts"] if c["title"] == "Some curves")
    assert chart["lines"][0]["ys"] == [0, 0.0625, 0.25, 0.5625, 1]
    assert chart["marked"] == {"a": [0.5, 0.25]}
    suspect = payload(text)["galleries"][-1]["pictures"][0]
    assert suspect["lines"] == ["this looks wrong", "confidence 0.900"]
    assert suspect["views"][0]["marked"] == [10, 20, 60, 50]


def test_a_failing_plug_in_costs_its_own_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_metric(write_run(tmp_path / "run", "boxes"), Broken, monkeypatch)
    assert "could not be computed: no &lt;b&gt;objects" in section(text, "x (test)")
    assert "Worst images" in text


def test_explanations(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "boxes")
    folder = run / "explanations"
    (folder / "pictures").mkdir(parents=True)
    write_image(folder / "pictures" / "a.png", "masks", np.random.default_rng(0))
    rows = [
        {"image": "a.jpg", "target": "cat", "method": "rise", "score": 0.9, "picture": picture}
        for picture in ("pictures/a.png", "../../../secret.png")
    ]
    gain = {"map": 0.3, "random": 0.5, "gain": 0.2, "low": 0.1, "high": 0.3, "words": "better"}
    content = {"faithfulness": {"deletion": gain}, "weights": None, "rows": rows}
    (folder / "explanations.json").write_text(json.dumps(content))
    text = report(run)
    shown = section(text, "Explanations")
    assert "deletion: better" in shown
    assert "<small>0.1000 to 0.3000</small>" in shown
    (picture,) = payload(text)["galleries"][-1]["pictures"]  # none from outside the folder
    assert picture["name"] == "a.jpg"
    (folder / "explanations.json").write_text("{}")
    assert "cannot be read" in section(report(run), "Explanations")


def test_the_page_keeps_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", "masks")
    whole = len(report(run))
    monkeypatch.setattr(pages, "LIMIT", whole - 1)
    text = report(run)
    assert len(text.encode()) < whole
    monkeypatch.setattr(pages, "LIMIT", 1)
    assert not payload(report(run))["galleries"][0]["pictures"]
