"""The values of single classes as one table per head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from densekit.app.reports.folder import Run
from densekit.app.reports.names import class_names, of_class
from densekit.evaluation import Measured
from densekit.metrics.analyses import Cell, Table
from densekit.metrics.detection.box_metric import BoxMetric

ABOUT = "Below a value stands its 95 % bootstrap interval."


def class_table(run: Run, measured: Sequence[Measured]) -> Table | None:
    """One row per class; None for a head without values of single classes.

    Args:
        run: The run.
        measured: The metrics of one head on one data set.
    """
    rows: dict[str, dict[str, Cell]] = {}
    columns: dict[str, None] = {}
    for one in measured:
        for name, key in one.keys.items():
            if (parts := of_class(one, name)) is None:
                continue
            column, of = parts
            column = column if key.endswith(f"/{name}") else f"{one.name} {column}"
            found = {column: one.values.get(key, math.nan)}
            if ends := run.ends(one, name):
                found |= {f"{column} low": ends[0], f"{column} high": ends[1]}
            columns |= dict.fromkeys(found)
            rows.setdefault(of, {}).update(found)
    if not rows:
        return None
    counts = _objects(measured)
    if counts:
        columns = {"objects": None, **columns}
        rows = {name: {"objects": counts.get(name, 0), **row} for name, row in rows.items()}
    cells = [[name, *(row.get(column) for column in columns)] for name, row in rows.items()]
    return Table(
        "Classes, with intervals",
        ["class", *columns],
        cells,
        ABOUT * any("low" in c for c in columns),
    )


def _objects(measured: Sequence[Measured]) -> dict[str, int]:
    """Annotated objects by class, crowds not counted; empty without boxes."""
    for one in measured:
        if isinstance(one.metric, BoxMetric):
            _, truth = one.metric.computed()
            names = class_names(one.metric)
            counts = np.bincount(truth.labels[~truth.crowd], minlength=len(names))
            return dict(zip(names, counts.tolist(), strict=True))
    return {}
