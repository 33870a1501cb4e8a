"""What the data hold: images, objects and classes of every split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densekit.app.reports.blocks import Block, Note
from densekit.app.reports.folder import Run
from densekit.metrics.analyses import Cell, Table


def data_summary(run: Run) -> list[Block]:
    """A table of the splits, and of each data set its classes; from the record of the run."""
    recorded = run.record.get("data")
    if not isinstance(recorded, Mapping) or not recorded:
        return [*_evaluated(run), Note("The run did not record counts of its data (run.json).")]
    rows: list[list[Cell]] = []
    blocks: list[Block] = []
    for name, splits in recorded.items():
        for split, counts in splits.items():
            objects = sum(counts.get("objects", {}).values())
            repaired = ", ".join(f"{n} x {kind}" for kind, n in counts.get("repaired", {}).items())
            rows.append(
                [name, split, counts["images"], objects or None, len(counts["classes"]), repaired]
            )
        if table := _classes(name, splits):
            blocks.append(table)
    columns = ["data set", "split", "images", "objects", "classes", "repaired or left out"]
    filled = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    rows = [[row[place] for place in filled] for row in rows]
    return [Table("Splits", [columns[place] for place in filled], rows), *blocks]


def _classes(name: str, splits: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Objects, or images, of each class and split; None where they were not counted."""
    for kind, what in (("objects", "Objects"), ("categories", "Images")):
        if any(counts.get(kind) for counts in splits.values()):
            names = dict.fromkeys(n for counts in splits.values() for n in counts["classes"])
            rows = [
                [label, *(counts.get(kind, {}).get(label, 0) for counts in splits.values())]
                for label in names
            ]
            return Table(f"{what} by class: {name}", ["class", *splits], rows)
    return None


def _evaluated(run: Run) -> list[Block]:
    """Numbers of images of the evaluation alone."""
    if run.evaluation is None:
        return []
    stage = run.evaluation.stage
    rows: list[list[Cell]] = [[name, stage, len(of)] for name, of in run.evaluation.paths.items()]
    return [Table("Evaluated images", ["data set", "split", "images"], rows)]
