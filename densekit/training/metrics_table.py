"""Prints the metrics of each validation, and those of a run at its end, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table

from densekit._console import print_whole, table_of
from densekit.metrics.bootstrap import Interval
from densekit.training.console import show
from densekit.training.intervals import logged_intervals
from densekit.training.sources import LOSS, is_main, log_name, source_names

STAGES = ("val", "test")


class Best(NamedTuple):
    """The best value of a metric so far.

    Attributes:
        value: The value.
        when: The validation that measured it, `epoch 3` or `step 1200`.
    """

    value: float
    when: str


class MetricsTable(Callback):
    """Prints the main metrics after each validation, and all metrics once, at the end of a run.

    The main metrics are those of a whole data set (`AP`, not `AP/cat`), the one that checkpoints
    monitor first. Beside each stands its change since the previous validation, and the best value
    so far where the better direction is known. The last table has the validation and the test side
    by side, with the intervals that `Intervals` has drawn.

    The last table needs `on_run_end`, see `densekit.training.run_end`.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._best: dict[str, Best] = {}
        self._ends: dict[str, dict[str, float]] = {}
        self._ranges: dict[str, dict[str, Interval]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Returns the last and the best values."""
        best = {name: list(found) for name, found in self._best.items()}
        return {"before": dict(self._before), "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compares with the values of the resumed run."""
        self._before = dict(state_dict["before"])
        self._best = {name: Best(*found) for name, found in state_dict["best"].items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the main metrics of a validation during training."""
        if trainer.sanity_checking:
            return
        metrics = stage_metrics(trainer, "val/")
        self._ends["val"] = metrics
        if trainer.state.fn != "fit":
            self._ranges["val"] = stage_intervals(trainer, pl_module, "val/")
            return
        when = _when(trainer)
        modes = metric_modes(trainer, pl_module)
        self._best |= better(metrics, modes, self._best, when)
        if trainer.is_global_zero:
            sources = len(source_names(trainer))
            main = {k: v for k, v in metrics.items() if is_main(k, sources)}
            title = f"Validation after {when}"
            show(trainer, table_with_changes(title, main, self._before, self._best))
        self._before = metrics

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the intervals of the last validation."""
        if "val" in self._ends:
            self._ranges["val"] = stage_intervals(trainer, pl_module, "val/")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the metrics of the test."""
        self._ends["test"] = stage_metrics(trainer, "test/")
        self._ranges["test"] = stage_intervals(trainer, pl_module, "test/")

    def on_run_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Prints all metrics of the last validation and the test."""
        if self._ends and trainer.is_global_zero:
            print_whole(table_of_stages(self._ends, self._ranges))


def stage_metrics(trainer: Trainer, stage: str) -> dict[str, float]:
    """Logged metrics of a stage ("val/" or "test/"), their names without the stage."""
    logged = trainer.callback_metrics
    watched = getattr(trainer.checkpoint_callback, "monitor", None)
    names = [name for name in logged if name.startswith(stage)]
    names.sort(key=lambda name: name != watched)
    return {name.removeprefix(stage): float(logged[name]) for name in names}


def stage_intervals(trainer: Trainer, lit: Any, stage: str) -> dict[str, Interval]:
    """Intervals of a stage ("val/" or "test/") by name without the stage."""
    found = logged_intervals(trainer, lit, stage.removesuffix("/"))
    return {name.removeprefix(stage): ends for name, ends in found.items()}


def metric_modes(trainer: Trainer, lit: Any) -> dict[str, str]:
    """Better direction, "max" or "min", of the metrics of validation that declare one."""
    modes: dict[str, str] = {}
    for source, metrics in lit.metric_sets("val").items():
        found = metrics.modes() | {LOSS: "min"}
        names = {key: log_name(trainer, "val", source, key) for key in found}
        modes |= {names[key].removeprefix("val/"): mode for key, mode in found.items()}
    return modes


def better(
    metrics: Mapping[str, float], modes: Mapping[str, str], best: Mapping[str, Best], when: str
) -> dict[str, Best]:
    """Returns the metrics that are better than ever before.

    Args:
        metrics: Of a validation.
        modes: Their better directions; others have no best value.
        best: The best values before.
        when: Names the validation.
    """
    found = {}
    for name, mode in modes.items():
        value = metrics.get(name, math.nan)
        before = best[name].value if name in best else math.nan
        improved = value > before if mode == "max" else value < before
        if improved or (math.isnan(before) and not math.isnan(value)):
            found[name] = Best(value, when)
    return found


def table_with_changes(
    title: str,
    metrics: Mapping[str, float],
    before: Mapping[str, float],
    best: Mapping[str, Best],
) -> Table:
    """Lays out the metrics of a validation, with change and best value if there was one before."""
    if not any(name in before for name in metrics):
        rows = [[name, _number(value)] for name, value in metrics.items()]
        return table_of(title, ["metric", "value"], rows)
    rows = []
    for name, value in metrics.items():
        change = value - before.get(name, math.nan)
        row = [name, _number(value), "" if math.isnan(change) else f"{change:+.4f}"]
        row.append(f"{best[name].value:.4f} ({best[name].when})" if name in best else "")
        rows.append(row)
    return table_of(title, ["metric", "value", "change", "best"], rows)


def table_of_stages(
    ends: Mapping[str, Mapping[str, float]], ranges: Mapping[str, Mapping[str, Interval]]
) -> Table:
    """Lays out all metrics with a column per stage, and one for its intervals if it has some.

    Args:
        ends: Stage ("val", "test") to name of the metric without the stage to value.
        ranges: Likewise to interval.
    """
    stages = [stage for stage in STAGES if stage in ends]
    columns = ["metric"]
    for stage in stages:
        columns += [stage, *["95 % interval"] * bool(ranges.get(stage))]
    rows = []
    for name in dict.fromkeys(name for stage in stages for name in ends[stage]):
        row = [name]
        for stage in stages:
            row.append(_number(ends[stage][name]) if name in ends[stage] else "")
            if of_stage := ranges.get(stage):
                found = of_stage.get(name)
                row.append(f"{found.low:.4f}–{found.high:.4f}" if found else "")
        rows.append(row)
    return table_of("Results", columns, rows)


def _when(trainer: Trainer) -> str:
    """Names a validation by its epoch, within an epoch by its step."""
    at_end = trainer.is_last_batch
    return f"epoch {trainer.current_epoch}" if at_end else f"step {trainer.global_step}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
