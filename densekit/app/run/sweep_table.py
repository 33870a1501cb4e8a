"""What the jobs of a multirun reached: a table with mean and spread, printed and as a file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit._files import write_csv, write_text
from densekit.app.report import number_text, print_lines, print_numbers, read_metrics
from densekit.app.run.folder import METRICS

FILE = "jobs.csv"
WORDS = "overrides.yaml"
SHOWN = 6
"""Jobs that have a column of their own on the terminal; the file has them all."""


def write_words(words: Sequence[str], run: Path) -> None:
    """Notes down in a run folder which words a job had."""
    write_text(run / WORDS, yaml.safe_dump(list(words), allow_unicode=True))


def summarise(folder: Path) -> None:
    """Prints the metrics of every job in FOLDER/NUMBER with their mean, and writes `jobs.csv`.

    A metric that a job could not measure is left out of its mean; `count` says of how many jobs
    that is. The spread is the standard deviation of a sample, empty for one job.
    """
    runs = sorted((run for run in folder.iterdir() if run.name.isdecimal()), key=_number)
    if not runs:
        return
    found = {run.name: _metrics(run) for run in runs}
    names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
    summary = {name: spread([metrics.get(name) for metrics in found.values()]) for name in names}
    words = {run.name: _words(run) for run in runs}
    _write(folder / FILE, words, found, summary)
    _print(words, found, summary)
    print_lines(f"table of the jobs: {folder / FILE}")


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation and number of the values that are there."""
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


def _words(run: Path) -> list[str]:
    file = run / WORDS
    return list(yaml.safe_load(file.read_text("utf-8"))) if file.is_file() else []


def _differing(words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The words of each job that not all jobs have."""
    every = [set(of_job) for of_job in words.values()]
    common = set.intersection(*every)
    return {
        job: " ".join(word for word in of_job if word not in common)
        for job, of_job in words.items()
    }


def _write(
    file: Path,
    words: Mapping[str, Sequence[str]],
    found: Mapping[str, Mapping[str, float]],
    summary: Mapping[str, Mapping[str, float | None]],
) -> None:
    """One row a job, then mean, standard deviation and count; what is not known is empty."""
    differing = _differing(words)
    rows: list[list[Any]] = [["job", "words", *summary]]
    for job, metrics in found.items():
        cells = [metrics.get(name, math.nan) for name in summary]
        rows.append([job, differing[job], *(None if math.isnan(cell) else cell for cell in cells)])
    for kind in ("mean", "std", "count"):
        rows.append([kind, "", *(summary[name][kind] for name in summary)])
    write_csv(file, rows)


def _print(
    words: Mapping[str, Sequence[str]],
    found: Mapping[str, Mapping[str, float]],
    summary: Mapping[str, Mapping[str, float | None]],
) -> None:
    print_lines(*(f"job {job}: {text}" for job, text in _differing(words).items() if text))
    shown = list(found) if len(found) <= SHOWN else []
    rows = []
    for name, of_all in summary.items():
        cells = [number_text(found[job].get(name)) for job in shown]
        rows.append([name, *cells, number_text(of_all["mean"]), number_text(of_all["std"])])
    count = len(found)
    print_numbers(["metric", *(f"job {job}" for job in shown), f"mean of {count}", "std"], rows)


def _number(run: Path) -> int:
    return int(run.name)
