"""The report of a training, of its evaluation and of a run that was killed early."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.app.cli import main
from densekit.app.run.record import read_record
from tests.unit.app.reports.test_report import payload, report, section
from tests.unit.app.small_run import SMALL_RUN

pytestmark = pytest.mark.slow  # trains


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *SMALL_RUN, f"paths.runs={folder}"]) == 0
    (made,) = folder.glob("*/*/metrics.json")
    return made.parent


def test_training(run: Path) -> None:
    record = read_record(run)
    counts = record["data"]["scenes"]
    assert {split: of["images"] for split, of in counts.items()} == {
        **{"train": 16, "val": 8, "test": 8}
    }
    assert record["parameters"]["backbone"]["all"] > 0
    text = report(run)
    assert "densekit eval" not in section(text, "Summary")
    (gallery, *_) = payload(text)["galleries"]
    view = gallery["pictures"][0]["views"][0]
    image = payload(text)["images"][view["image"]]
    assert image["source"]  # rendered again: no file holds it
    assert image["frame"] == [0, 0, 64, 64]


def test_evaluation(run: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={run}", f"output={tmp_path}", "data.scenes.num_workers=0", "split=val"]
    assert main(["eval", *words, "trainer.accelerator=cpu"]) == 0
    text = report(tmp_path)
    assert section(text, "classification (val)")
    assert "no checkpoint" not in text
    assert payload(text)["galleries"][0]["pictures"]


def test_two_epochs_beside_one(run: Path, tmp_path: Path) -> None:
    words = [*SMALL_RUN, "trainer.max_epochs=2", f"paths.runs={tmp_path}"]
    assert main(["train", *words]) == 0
    (other,) = tmp_path.glob("*/*/metrics.json")
    text = report(run, other.parent, "resamples=20")
    assert "trainer.max_epochs" in section(text, "Configuration")
    assert "Differences: classification" in section(text, "Comparison")
