"""A metric over a setting, one curve per folder of runs: the table in Markdown, and a plot.

Several runs of a folder at one value of the setting (other seeds) are shown by their mean and its
standard error.

    python tools/learning_curve.py x=data.pennfudan.num_train_images \
        metric=test/segmentation/IoU/pedestrian output=curve.png \
        'from scratch=runs/scratch' full=runs/full
"""

from __future__ import annotations

import json
import math
import sys
from functools import reduce
from pathlib import Path
from statistics import mean, stdev

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure

OPTIONS = ("x", "metric", "output")

Curve = dict[float, list[float]]
"""Value of the setting to the metric of each run."""


def read(folder: Path, x: str, metric: str) -> Curve:
    """The runs below a folder.

    Raises:
        ValueError: There is none, or one lacks the metric.
    """
    curve: Curve = {}
    for file in sorted(folder.rglob("metrics.json")):
        found = json.loads(file.read_text())
        if metric not in found:
            raise ValueError(f"{file}: expected {metric}, got {sorted(found)}")
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        at = reduce(lambda node, key: node[key], x.split("."), config)
        curve.setdefault(float(at), []).append(float(found[metric]))
    if not curve:
        raise ValueError(f"{folder}: expected runs, got none")
    return dict(sorted(curve.items()))


def error(values: list[float]) -> float:
    """Standard error of the mean, NaN of a single value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def table(curves: dict[str, Curve]) -> list[str]:
    """Lines of Markdown: mean ± standard error (number of runs)."""
    columns = sorted({at for curve in curves.values() for at in curve})
    rows = [["", *(f"{at:g}" for at in columns)]]
    for name, curve in curves.items():
        rows.append([name, *(_cell(curve.get(at, [])) for at in columns)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return [line.replace("|  |", "| |") for line in lines]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {error(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{deviation} ({len(values)})"


def plot(curves: dict[str, Curve], x: str, metric: str, output: Path) -> None:
    """Means with their standard errors over a logarithmic axis."""
    with mpl.rc_context({"svg.hashsalt": "densekit", "font.size": 11}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            errors = [0.0 if math.isnan(e := error(v)) else e for v in curve.values()]
            means = [mean(values) for values in curve.values()]
            axes.errorbar(list(curve), means, errors, marker="o", capsize=3, label=name)
        ticks = sorted({at for curve in curves.values() for at in curve})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{at:g}" for at in ticks])
        axes.minorticks_off()
        axes.set_xlabel(x)
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)


def main(arguments: list[str]) -> None:
    """Prints the table and writes the plot."""
    given = dict(word.split("=", 1) for word in arguments)
    x, metric, output = (given.pop(key) for key in OPTIONS)
    curves = {name: read(Path(folder), x, metric) for name, folder in given.items()}
    print("\n".join(table(curves)))
    plot(curves, x, metric, Path(output))


if __name__ == "__main__":
    main(sys.argv[1:])
