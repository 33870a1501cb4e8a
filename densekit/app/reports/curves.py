"""Training curves from the run's `metrics.csv`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from densekit.app.reports.blocks import Block, Note
from densekit.app.reports.folder import Run, logged_rows
from densekit.metrics.analyses import Curves

Line = tuple[NDArray[np.float64], NDArray[np.float64]]
PER_HEAD = 4
"""Metrics of a head that are drawn; heads list the most important first."""


def training_curves(run: Run) -> list[Block]:
    """Losses, metrics of the validation and the learning rate over the optimiser steps."""
    rows = logged_rows(run)
    if not rows:
        if not run.is_training:
            return []
        return [Note("No curves: the run has no csv/metrics.csv, as it runs without a CSV logger.")]
    lines = _lines(rows)
    losses = {name: line for name, line in lines.items() if "loss" in name.split("/")}
    rates = {name: line for name, line in lines.items() if name.startswith("lr-")}
    other = {n: line for n, line in lines.items() if n.startswith("val/") and n not in losses}
    named = [("Loss", "loss", losses), ("Validation", "value", _first_of_heads(other))]
    drawn = [Curves(title, "step", y, found) for title, y, found in named if found]
    if rates:
        drawn.append(Curves("Learning rate", "step", "learning rate", rates))
    return list(drawn)


def _lines(rows: list[dict[str, str]]) -> dict[str, Line]:
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        step = _number(row.get("step"))
        for name, text in row.items():
            value = _number(text)
            if name and name not in ("step", "epoch") and math.isfinite(value + step):
                points.setdefault(name, {})[step] = value
    return {name: _sorted(found.items()) for name, found in points.items()}


def _sorted(points: Iterable[tuple[float, float]]) -> Line:
    array = np.array(sorted(points))
    return array[:, 0], array[:, 1]


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def _first_of_heads(lines: dict[str, Line]) -> dict[str, Line]:
    """The first metrics of each head; a column of a single class has one part more."""
    depth = min((name.count("/") for name in lines), default=0)
    counts: dict[str, int] = {}
    chosen = {}
    for name, line in lines.items():
        head = name.rpartition("/")[0]
        if name.count("/") == depth and counts.get(head, 0) < PER_HEAD:
            counts[head] = counts.get(head, 0) + 1
            chosen[name] = line
    return chosen
