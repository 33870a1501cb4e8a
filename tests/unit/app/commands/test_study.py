"""`densekit study degradation`: the runs, what is kept of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from densekit.app import worker
from densekit.app.cli import main
from densekit.app.studies import runs

SMALL = [
    *("backbone.depth=8,14", "seed=5", "output=out", "trainer.max_epochs=1"),
    *("trainer.check_val_every_n_epoch=1", "trainer.enable_progress_bar=false"),
    *("callbacks.progress=null", "callbacks.table=null", "data.shapes.batch_size=4"),
    *(f"data.shapes.{split}.length=8" for split in ("train", "val", "test")),
]


class Here:
    """Stands for the processes: runs everything in this one, except what is to fail."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.started = fails, list[str]()

    def __call__(self, files: Mapping[str, Path], at_once: int) -> Iterator[tuple[str, int, float]]:
        for name, file in files.items():
            self.started.append(name)
            if name == self.fails:
                (file.parent / "log.txt").write_text("some lines\nno memory left\n\n")
                yield name, 1, 0.0
            else:
                yield name, worker.main([str(file)]), 0.0


def test_a_failed_run_is_named_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "run_all", first := Here(fails="plain_14_seed5"))
    assert main(["study", "degradation", *SMALL]) == 1
    assert first.started == [
        *("plain_14_seed5", "residual_14_seed5", "plain_8_seed5", "residual_8_seed5"),
    ]
    said = capsys.readouterr().out
    assert "FAILED: plain_14_seed5: no memory left" in said
    assert "| residual | 14 " in said
    assert "| plain    | 14 " not in said

    monkeypatch.setattr(runs, "run_all", second := Here())
    assert main(["study", "degradation", *SMALL]) == 0
    assert second.started == ["plain_14_seed5"]
    said = capsys.readouterr().out
    assert "3 of 4 runs are already complete" in said
    assert "Not judged" in said  # one seed
    signal = json.loads((tmp_path / "out/residual_14_seed5/signal.json").read_text())
    assert {when: len(found["gradient"]) for when, found in signal.items()} == {
        "start": 13,
        "end": 13,
    }
    assert signal["start"] != signal["end"]
    figures = json.loads((tmp_path / "out/residual_14_seed5/metrics.json").read_text())
    assert figures["step"] == 2
    rows = (tmp_path / "out/degradation.csv").read_text().splitlines()
    assert len(rows) == 5
    wrong = 1 - figures["val/classification/accuracy"]
    assert f"residual,14,5,{wrong},{1 - figures['test/classification/accuracy']}" in rows
    assert (tmp_path / "out/degradation.png").is_file()

    assert main(["study", "degradation", *SMALL, "optimizer.lr=0.3"]) == 2
    assert "optimizer.lr: expected 0.05 as in the earlier runs, got 0.3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["degradaton"], "got 'degradaton'; did you mean 'degradation'?"),
        ([], "expected one of degradation, got ''"),
        (["degradation", "optimizer.lr=0.1,0.2"], "expected one of backbone.depth"),
        (["degradation", "backbone.dept=8,20"], "did you mean 'backbone.depth'?"),
        (["degradation", "backbone.depth=20"], "expected at least two depths"),
        (["degradation", "job=2"], "got 'job'"),
        (["degradation", "jobs=none"], "jobs: expected a whole number of at least 1, got none"),
        (["degradation", "backbone=iresnet", "seed=0"], "(IResNet): expected one of"),
        (
            ["degradation", "trainer.devices=2", "seed=0"],
            "expected one device per run of a study, got 2",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refuses_before_any_work(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
