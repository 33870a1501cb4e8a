"""A figure over a setting, a line for each folder of runs: the table in Markdown, and a plot.

What several runs of a folder measured at one value of the setting (other seeds) is shown by its
mean and its standard error.

    python tools/learning_curve.py x=vars.num_images figure=test/segmentation/IoU/pedestrian \
        output=curve.png 'from scratch=runs/scratch' frozen=runs/frozen
"""

from __future__ import annotations

import json
import math
import sys
from functools import reduce
from pathlib import Path
from statistics import mean, stdev

import yaml

OPTIONS = ("x", "figure", "output")

Curve = dict[float, list[float]]
"""Value of the setting to the figure of each run."""


def read(folder: Path, x: str, figure: str) -> Curve:
    """The runs below a folder.

    Raises:
        ValueError: There is none, or one has not got so far.
    """
    curve: Curve = {}
    for file in sorted(folder.rglob("metrics.json")):
        found = json.loads(file.read_text())
        if figure not in found:
            raise ValueError(f"{file}: no {figure}, found {sorted(found)}")
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        at = reduce(lambda node, key: node[key], x.split("."), config)
        curve.setdefault(float(at), []).append(float(found[figure]))
    if not curve:
        raise ValueError(f"{folder}: no run")
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


def plot(curves: dict[str, Curve], x: str, figure: str, output: Path) -> None:
    """Means with their standard errors over a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "densekit", "font.size": 11})
    from matplotlib import pyplot as plt

    picture, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, curve in curves.items():
        errors = [0.0 if math.isnan(e := error(v)) else e for v in curve.values()]
        axes.errorbar(
            list(curve),
            [mean(v) for v in curve.values()],
            errors,
            marker="o",
            capsize=3,
            label=name,
        )
    ticks = sorted({at for curve in curves.values() for at in curve})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{at:g}" for at in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(figure)
    axes.grid(alpha=0.3)
    axes.legend()
    picture.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)


def main(arguments: list[str]) -> None:
    """Prints the table and writes the plot."""
    given = dict(word.split("=", 1) for word in arguments)
    x, figure, output = (given.pop(key) for key in OPTIONS)
    curves = {name: read(Path(folder), x, figure) for name, folder in given.items()}
    print("\n".join(table(curves)))
    plot(curves, x, figure, Path(output))


if __name__ == "__main__":
    main(sys.argv[1:])
