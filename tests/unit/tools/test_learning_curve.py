"""The tool that makes a table and a plot of runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import learning_curve  # type: ignore[import-not-found] # noqa: E402


def run(folder: Path, images: int, iou: float) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"vars": {"images": images}}))
    (folder / "metrics.json").write_text(json.dumps({"test/iou": iou}))


def test_means_errors_and_a_plot(tmp_path, capsys):
    for number, (images, iou) in enumerate([(50, 0.7), (10, 0.2), (10, 0.4), (10, 0.6)]):
        run(tmp_path / "scratch" / str(number), images, iou)
    run(tmp_path / "frozen" / "0", 50, 0.75)
    learning_curve.main(
        [
            "x=vars.images",
            "metric=test/iou",
            f"output={tmp_path / 'curve.svg'}",
            f"from scratch={tmp_path / 'scratch'}",
            f"frozen={tmp_path / 'frozen'}",
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "| | 10 | 50 |",
        "|---|---|---|",
        "| from scratch | 0.400 ± 0.115 (3) | 0.700 (1) |",
        "| frozen | | 0.750 (1) |",
    ]
    assert "</svg>" in (tmp_path / "curve.svg").read_text()


def test_what_is_not_there_is_named(tmp_path):
    run(tmp_path / "a" / "0", 10, 0.2)
    with pytest.raises(ValueError, match=r"expected test/mIoU, got \['test/iou'\]"):
        learning_curve.read(tmp_path / "a", "vars.images", "test/mIoU")
    with pytest.raises(ValueError, match="b: expected runs, got none"):
        learning_curve.read(tmp_path / "b", "vars.images", "test/iou")
