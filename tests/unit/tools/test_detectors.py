"""The table of detectors: its settings, and the page that is written of results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from densekit import compose

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools" / "benchmarks"))
import detectors  # type: ignore[import-not-found] # noqa: E402
from detector_settings import HEADS, Setting  # type: ignore[import-not-found] # noqa: E402


@pytest.mark.parametrize("head", HEADS)
def test_every_head_composes_on_the_scenes(head: str) -> None:
    _, model, job = compose(*Setting("scenes", head, 3).words(40), "backbone.width=8")
    assert job["data"]["scenes"]["train"]["length"] == 320
    assert job["seed"] == 3
    assert list(model.heads) == ["detection"]


@pytest.mark.parametrize("name", ["scenes/fcos:one", "scenes/other", "coco/fcos", "bccd/mask_rcnn"])
def test_unknown_trainings_are_refused(name: str) -> None:
    with pytest.raises(SystemExit, match=name):
        Setting.of(name)


def test_the_page_has_a_row_per_result_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "docs" / "benchmarks" / "detection.md"
    page.parent.mkdir(parents=True)
    marks = [
        f"<!-- detectors on {d}: {w} -->" for d in ("scenes", "bccd") for w in ("begin", "end")
    ]
    page.write_text("\n".join(["before", *marks, "after"]))
    detectors.FOLDER.mkdir(parents=True)
    for name, value in (("scenes-fcos-0", 0.3), ("scenes-ssd-12", 0.5)):
        metrics = {"test/detection/AP": value, "test/detection/AP_large": None}
        cost = {"step": 0.3, "steps": 600, "rate": 40.0, "gflop": 2.5, "parameters": 12e6}
        Path(detectors.FOLDER, f"{name}.json").write_text(json.dumps({"metrics": metrics, **cost}))
    detectors.main(["--page"])
    text = page.read_text()
    first, second = (row for row in text.splitlines() if row.startswith(("| FCOS", "| SSD")))
    assert first.startswith("| SSD | 12 | 0.500 | - |")
    assert second.startswith("| FCOS | 0 | 0.300 | - |")
    assert "Not measured yet." in text
    assert text.startswith("before")
    assert text.endswith("after")
