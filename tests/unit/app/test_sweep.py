"""Hydra's sweepers and launchers get our words and our figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from densekit.app import train as train_command
from densekit.app.cli import main
from densekit.app.compose import compose
from densekit.app.errors import UsageError
from densekit.app.sweep import figure

RATES: list[float] = []
TOLD: list[dict[str, Any]] = []


def fake_train(overrides: list[str], run: Path, told: dict[str, Any]) -> Path:
    """A run whose metric is best at a learning rate of 0.01; its main metric is that one."""
    rate = float(compose(overrides).cfg.optimizer.lr)
    RATES.append(rate)
    TOLD.append(told)
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save({"config": "objective: val/detection/AP50"}, run / "checkpoints" / "last.ckpt")
    (run / "metrics.json").write_text(json.dumps({"val/detection/AP50": -abs(rate - 0.01)}))
    return run


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wörk (1)=["
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(train_command, "train", fake_train)
    RATES.clear()
    TOLD.clear()
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
    with pytest.raises(UsageError, match="Did you mean 'val/detection/AP50'"):
        figure(file, "val/detection/AP5")
    file.write_text('{"val/detection/AP50": null}')
    with pytest.raises(UsageError, match="expected a number of val/detection/AP50"):
        figure(file, "val/detection/AP50")


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

    from densekit.app.groups import own_conf

    with initialize_config_dir(str(own_conf()), version_base="1.3"):
        words = [f"hydra/launcher={launcher}", "experiment=quickstart"]
        cfg = hydra_compose("config", words, return_hydra_config=True)
    assert "submitit" in cfg.hydra.launcher._target_
