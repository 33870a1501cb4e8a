from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densekit.app.cli import main
from tests.unit.app.small_run import SMALL_RUN


def test_a_step_that_diverged_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL_RUN, "optimizer.lr=1e25", "schedule=constant"]) == 2
    (run,) = (tmp_path / "runs" / "quickstart_classification").iterdir()
    file = run / "non_finite" / "rank_0.pt"
    assert f"densekit replay {file}" in capsys.readouterr().err
    assert main(["replay", str(run)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "output: backbone." in shown
    assert "gradient: heads.classification" in shown
    assert "cause: the learning rate 1e+25 is too high" in shown
    content = torch.load(file, weights_only=True)
    torch.manual_seed(0)
    content["state_dict"] = {
        name: torch.randn_like(value) * 1e-2 if value.is_floating_point() else value
        for name, value in content["state_dict"].items()
    }
    torch.save(content, file)
    assert main(["replay", str(file)]) == 1
    assert "not found here" in capsys.readouterr().out


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    assert main(["replay", str(tmp_path / "last.ckpt")]) == 2
    assert "expected what a non-finite loss leaves" in capsys.readouterr().err
    assert main(["replay", str(tmp_path)]) == 2
    assert "expected a run with non_finite/rank_0.pt" in capsys.readouterr().err
