"""What a run folder holds, whatever part of it is there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from densekit._names import readable
from densekit.app.errors import UsageError
from densekit.app.run.folder import CONFIG, METRICS
from densekit.app.run.record import RECORD, read_record
from densekit.evaluation import Evaluation, Measured, read_evaluation

STAGES = ("test", "val")


@dataclass(frozen=True)
class Run:
    """A run folder of `densekit train` or an output folder of `densekit eval`.

    Attributes:
        path: The folder.
        config: `config.yaml` as plain values, empty without one.
        metrics: Numbers of `metrics.json` by logged name, NaN for null.
        intervals: Logged name to the ends of its 95 % interval.
        record: `run.json`, empty without one.
        stopped: Why the training ended, empty if it has not or there was none.
        evaluation: The rows of the test, else of the validation; None without.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    record: dict[str, Any]
    stopped: str
    evaluation: Evaluation | None

    @property
    def name(self) -> str:
        """The last two parts of its path, such as `quickstart/TIMESTAMP`."""
        return readable("/".join(self.path.parts[-2:]))

    @property
    def is_training(self) -> bool:
        """Whether it was made by `densekit train`."""
        return self.config.get("command") != "eval"

    def logged(self, one: Measured, name: str) -> str:
        """The name in `metrics.json` of a value of a metric."""
        assert self.evaluation is not None
        short = f"{self.evaluation.stage}/{one.keys.get(name, name)}"
        long = f"{self.evaluation.stage}/{one.data}/{one.keys.get(name, name)}"
        return long if long in self.metrics else short

    def ends(self, one: Measured, name: str) -> tuple[float, float] | None:
        """The ends of the 95 % interval of a value of a metric."""
        return self.intervals.get(self.logged(one, name))

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint of a training, None without one."""
        files = sorted((self.path / "checkpoints").glob("*.ckpt"), key=_age)
        return files[-1] if files else None


def read_run(path: Path, key: str, split: str | None, trust: Sequence[str] = ()) -> Run:
    """Reads what is there of a run folder.

    Args:
        path: The folder.
        key: Name of the argument, for messages.
        split: "test" or "val"; None for the test if it was evaluated.
        trust: Packages whose metrics may be built.

    Raises:
        UsageError: It is no run folder.
        ValueError: A file in it is damaged.
    """
    evaluations = [path / f"evaluation_{stage}.npz" for stage in (split and [split]) or STAGES]
    found = next((file for file in evaluations if file.is_file()), None)
    known = [path / CONFIG, path / METRICS, path / RECORD]
    if not path.is_dir() or not (found or any(file.is_file() for file in known)):
        raise UsageError(_no_run(path, key))
    content = _json(path / METRICS)
    return Run(
        path=path.absolute(),
        config=_yaml(path / CONFIG),
        metrics={name: _number(v) for name, v in content.items() if _is_number(v)},
        intervals=_intervals(path / METRICS, content.get("intervals", {})),
        record=read_record(path),
        stopped=str(content.get("stopped") or ""),
        evaluation=None if found is None else read_evaluation(found, trust),
    )


def logged_rows(run: Run) -> list[dict[str, str]]:
    """The rows of the run's `metrics.csv`, empty without one."""
    files = sorted(run.path.glob("csv/**/metrics.csv"), key=_age)
    if not files:
        return []
    with files[-1].open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def console_text(run: Run) -> str:
    """What the run printed, empty without `console.log`."""
    file = run.path / "console.log"
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _no_run(path: Path, key: str) -> str:
    inner = sorted(file.parent for file in path.glob("*/config.yaml")) if path.is_dir() else []
    inner = inner or (
        sorted(f.parent for f in path.glob("*/*/config.yaml")) if path.is_dir() else []
    )
    newest = f"; the newest of {len(inner)} runs in it is {inner[-1]}" if inner else ""
    return (
        f"{key}: expected a run folder of densekit train or eval, with {CONFIG} or {METRICS}, got"
        f" {path}{newest}"
    )


def _age(file: Path) -> float:
    return file.stat().st_mtime


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: expected JSON, got {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected metrics by name, got {type(content).__name__}")
    return content


def _yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: expected YAML, got {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{file}: expected a configuration, got {type(content).__name__}")
    return dict(content)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _intervals(file: Path, stored: Any) -> dict[str, tuple[float, float]]:
    try:
        return {str(name): (float(low), float(high)) for name, (low, high) in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: intervals: expected [low, high] by name, got {error}") from error
