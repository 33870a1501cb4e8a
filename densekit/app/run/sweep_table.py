"""The table of a multirun: metrics of each job with mean and spread, printed and as a file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit._files import write_csv, write_text
from densekit.app.run.folder import METRICS
from densekit.app.terminal import number_text, print_lines, print_numbers, read_metrics

FILE = "jobs.csv"
OVERRIDES = "overrides.yaml"
SHOWN = 6
"""Most jobs that get columns of their own on the terminal; the file has all jobs."""


def write_overrides(overrides: Sequence[str], run: Path) -> None:
    """Writes the overrides of a job into its run folder."""
    write_text(run / OVERRIDES, yaml.safe_dump(list(overrides), allow_unicode=True))


def summarise(folder: Path) -> None:
    """Prints the metrics of every job in FOLDER/NUMBER with their mean, and writes `jobs.csv`.

    The mean leaves out jobs that could not measure the metric; `count` is the number of the others.
    The spread is the sample standard deviation, empty for one job.
    """
    runs = sorted((run for run in folder.iterdir() if run.name.isdecimal()), key=_number)
    if not runs:
        return
    found = {run.name: _metrics(run) for run in runs}
    names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
    summary = {name: spread([metrics.get(name) for metrics in found.values()]) for name in names}
    overrides = {run.name: _overrides(run) for run in runs}
    _write(folder / FILE, overrides, found, summary)
    _print(overrides, found, summary)
    print_lines(f"table of the jobs: {folder / FILE}")


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation and count of the values that are not missing."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    mean = statistics.fmean(known) if known else None
    return {
        "mean": mean,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "count": len(known),
    }


def _metrics(run: Path) -> dict[str, float]:
    file = run / METRICS
    return read_metrics(file) if file.is_file() else {}


def _overrides(run: Path) -> list[str]:
    file = run / OVERRIDES
    return list(yaml.safe_load(file.read_text("utf-8"))) if file.is_file() else []


def _differing(overrides: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The overrides of each job that not all jobs share."""
    every = [set(of_job) for of_job in overrides.values()]
    common = set.intersection(*every)
    return {
        job: " ".join(word for word in of_job if word not in common)
        for job, of_job in overrides.items()
    }


def _write(
    file: Path,
    overrides: Mapping[str, Sequence[str]],
    found: Mapping[str, Mapping[str, float]],
    summary: Mapping[str, Mapping[str, float | None]],
) -> None:
    """Writes one row per job, then mean, standard deviation and count; unknown values are empty."""
    differing = _differing(overrides)
    rows: list[list[Any]] = [["job", "overrides", *summary]]
    for job, metrics in found.items():
        cells = [metrics.get(name, math.nan) for name in summary]
        rows.append([job, differing[job], *(None if math.isnan(cell) else cell for cell in cells)])
    for kind in ("mean", "std", "count"):
        rows.append([kind, "", *(summary[name][kind] for name in summary)])
    write_csv(file, rows)


def _print(
    overrides: Mapping[str, Sequence[str]],
    found: Mapping[str, Mapping[str, float]],
    summary: Mapping[str, Mapping[str, float | None]],
) -> None:
    print_lines(*(f"job {job}: {text}" for job, text in _differing(overrides).items() if text))
    shown = list(found) if len(found) <= SHOWN else []
    rows = []
    for name, of_all in summary.items():
        cells = [number_text(found[job].get(name)) for job in shown]
        rows.append([name, *cells, number_text(of_all["mean"]), number_text(of_all["std"])])
    count = len(found)
    print_numbers(["metric", *(f"job {job}" for job in shown), f"mean of {count}", "std"], rows)


def _number(run: Path) -> int:
    return int(run.name)
