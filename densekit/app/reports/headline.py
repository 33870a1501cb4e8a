"""The numbers that are read first, and all of them in a table."""

from __future__ import annotations

import math

from densekit.app.reports.blocks import Block, Card, Cards
from densekit.app.reports.folder import STAGES, Run
from densekit.app.reports.names import of_class, title
from densekit.metrics.analyses import Cell, Table

CARDS = 8
ABOUT = "Below a value stands its 95 % bootstrap interval."


def headline(run: Run) -> list[Block]:
    """Cards of the main metrics, and the table of all values but those of single classes."""
    cards = _main_values(run) or _first_values(run)
    blocks: list[Block] = [Cards(cards[:CARDS])] if cards else []
    table = _table(run)
    return [*blocks, table] if table.rows else blocks


def _main_values(run: Run) -> list[Card]:
    """Of every metric of the evaluation the main value, and others with an interval."""
    if run.evaluation is None:
        return []
    stage, measured = run.evaluation.stage, run.evaluation.measured
    each = max(1, (CARDS - 2) // max(1, len(measured)))
    cards = []
    for one in measured:
        whole = [name for name in one.keys if of_class(one, name) is None]
        known = [name for name in whole[1:] if run.ends(one, name)] or whole[1:]
        for name in [*whole[:1], *known][:each]:
            key, detail = one.keys[name], f"{title(one, measured)}, {stage}"
            card = Card(key.split("/", 1)[-1], one.values[key], run.ends(one, name), detail)
            cards.append(card)
    return cards


def _first_values(run: Run) -> list[Card]:
    """Of a run without rows: the first metric of each head in `metrics.json`."""
    cards: dict[str, Card] = {}
    for name, value in run.metrics.items():
        stage, _, rest = name.partition("/")
        head, _, metric = rest.rpartition("/")
        if stage in STAGES and head and not _is_loss(name):
            cards.setdefault(
                f"{stage}/{head}", Card(metric, value, run.intervals.get(name), f"{head}, {stage}")
            )
    return list(cards.values())


def _table(run: Run) -> Table:
    """One row per value, with those of the test before those of the validation."""
    names: dict[str, None] = {}
    stages = [s for s in STAGES if any(name.startswith(f"{s}/") for name in run.metrics)]
    classes = _class_values(run)
    for name in sorted(run.metrics, key=_is_loss):
        stage, _, rest = name.partition("/")
        if stage in STAGES and rest not in classes:
            names[rest] = None
    columns = ["metric", *(column for s in stages for column in (s, f"{s} low", f"{s} high"))]
    rows = [[name, *_cells(run, stages, name)] for name in names]
    return Table("All metrics", columns, rows, ABOUT)


def _is_loss(name: str) -> bool:
    return "loss" in name.split("/")


def _cells(run: Run, stages: list[str], name: str) -> list[Cell]:
    cells: list[Cell] = []
    for stage in stages:
        key = f"{stage}/{name}"
        ends = run.intervals.get(key, (math.nan, math.nan))
        cells += [run.metrics.get(key, math.nan), *ends]
    return cells


def _class_values(run: Run) -> set[str]:
    """Logged names, without the stage, of the values of single classes."""
    if run.evaluation is None:
        return set()
    prefix = len(run.evaluation.stage) + 1
    return {
        run.logged(one, name)[prefix:]
        for one in run.evaluation.measured
        for name in one.keys
        if of_class(one, name)
    }
