"""Hydra's sweepers and launchers get our overrides and our metrics."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from densekit.app.cli import main
from densekit.app.config.compose import Composed
from densekit.app.errors import UsageError
from densekit.app.run import sweep as sweep_module
from densekit.app.run.sweep import metric_value
from densekit.app.run.sweep_table import spread

RATES: list[float] = []
TOLD: list[dict[str, Any]] = []
PATHS: list[str] = []


def fake_train(composed: Composed, run: Path, told: dict[str, Any] | None = None) -> Path:
    """A run whose metric is best at a learning rate of 0.01; its main metric is that one."""
    cfg = composed.cfg
    rate = float(cfg.optimizer.lr)
    RATES.append(rate)
    PATHS.append(str(cfg.paths.data))
    TOLD.append(told or {})
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save({"config": "objective: val/detection/AP50"}, run / "checkpoints" / "last.ckpt")
    (run / "metrics.json").write_text(json.dumps({"val/detection/AP50": -abs(rate - 0.01)}))
    return run


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wörk (1)=["
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sweep_module, "train", fake_train)
    RATES.clear()
    TOLD.clear()
    PATHS.clear()
    return folder


@pytest.mark.parametrize("objective", [["objective=val/detection/AP50"], []])
def test_optuna_is_told_the_metric(in_folder: Path, objective: list[str]) -> None:
    words = ["experiment=quickstart", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4"]
    words += ["hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1"]
    words += ["optimizer.lr=tag(log, interval(1e-3, 1e-1))"]
    assert main(["train", "-m", *words, *objective]) == 0
    assert len(RATES) == 4
    expected = "val/detection/AP50" if objective else "main"
    assert TOLD[0] == {"objective": expected, "direction": "maximize"}
    assert all(1e-3 <= rate <= 1e-1 for rate in RATES)
    (search,) = (in_folder / "runs" / "search").iterdir()
    best = (search / "optimization_results.yaml").read_text()
    assert f"best_value: {max(-abs(rate - 0.01) for rate in RATES)}" in best
    assert len(list(search.glob("*/metrics.json"))) == 4


def test_basic_sweeper_with_a_launcher_runs_every_combination(in_folder: Path) -> None:
    words = ["experiment=quickstart", "optimizer.lr=0.1,0.2", "hydra/launcher=basic"]
    assert main(["train", "-m", *words, "run_name=both"]) == 0
    assert RATES == [0.1, 0.2]
    assert len(list((in_folder / "runs" / "both").glob("*/*/metrics.json"))) == 2


SWEEPERS = {
    "own": [],
    "basic": ["hydra/sweeper=basic"],
    "optuna": ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1"],
}


@pytest.mark.parametrize("sweeper", SWEEPERS)
@pytest.mark.parametrize("path", ["/a=b it's (1)[x]~#&;:写", "'/a,b'"])
def test_odd_paths_reach_the_jobs_of_every_sweeper(path: str, sweeper: str) -> None:
    words = ["-m", "experiment=quickstart", f"paths.data={path}", "optimizer.amsgrad=true"]
    words += SWEEPERS[sweeper] and [*SWEEPERS[sweeper], "objective=val/detection/AP50"]
    assert main(["train", *words]) == 0
    assert [path.strip("'")] == PATHS


@pytest.mark.parametrize("sweeper", ["own", "basic"])
def test_paths_are_swept(sweeper: str) -> None:
    words = ["-m", "experiment=quickstart", "paths.data=/a=b,'/c,d'", *SWEEPERS[sweeper]]
    assert main(["train", *words]) == 0
    assert PATHS == ["/a=b", "/c,d"]


@pytest.mark.parametrize("sweeper", ["own", "basic"])
def test_a_multirun_ends_with_a_table_of_its_jobs(
    in_folder: Path, sweeper: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "experiment=quickstart", "optimizer.lr=0.01,0.03", *SWEEPERS[sweeper]]
    assert main(["train", *words]) == 0
    (file,) = in_folder.glob("runs/*/*/jobs.csv")
    rows = list(csv.reader(file.open(encoding="utf-8")))
    assert rows[0] == ["job", "overrides", "val/detection/AP50"]
    assert [row[:2] for row in rows[1:3]] == [
        ["0", "optimizer.lr=0.01"],
        ["1", "optimizer.lr=0.03"],
    ]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([0, -0.02, -0.01, 0.02 / 2**0.5, 2])
    assert [row[0] for row in rows[3:]] == ["mean", "std", "count"]
    shown = capsys.readouterr().out
    assert "mean of 2" in shown
    assert str(file) in shown


def test_metrics_that_a_job_could_not_measure_are_left_out_of_the_mean() -> None:
    assert spread([1.0, None, 3.0, math.nan]) == {"mean": 2, "std": 2**0.5, "count": 2}
    assert spread([1.0]) == {"mean": 1, "std": None, "count": 1}
    assert spread([None]) == {"mean": None, "std": None, "count": 0}


def test_unknown_sweeper_is_refused_with_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "-m", "experiment=quickstart", "hydra/sweeper=optunna"]) == 2
    error = capsys.readouterr().err
    assert "optunna" in error
    assert "densekit[sweep]" in error


def test_unknown_figure_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text('{"val/detection/AP50": 0.5}')
    with pytest.raises(UsageError, match="did you mean 'val/detection/AP50'"):
        metric_value(file, "val/detection/AP5")
    file.write_text('{"val/detection/AP50": null}')
    with pytest.raises(UsageError, match="expected a value of val/detection/AP50"):
        metric_value(file, "val/detection/AP50")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Sweeper, "OptunaSweeper"), (Launcher, "SlurmLauncher"), (Launcher, "LocalLauncher")],
)
def test_plugins_of_the_extra_are_found(kind: type, name: str) -> None:
    found = {plugin.__name__ for plugin in Plugins.instance().discover(kind)}
    assert name in found


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_launchers_compose(launcher: str) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from densekit.app.config.groups import own_conf

    with initialize_config_dir(str(own_conf()), version_base="1.3"):
        words = [f"hydra/launcher={launcher}", "experiment=quickstart"]
        cfg = hydra_compose("config", words, return_hydra_config=True)
    assert "submitit" in cfg.hydra.launcher._target_
