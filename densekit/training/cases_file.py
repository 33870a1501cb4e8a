"""Per-image metrics as a table: one row per image or patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from densekit._files import write_csv
from densekit.ops import dist
from densekit.training.image_paths import ImagePaths

KEYS = ("data", "head", "image_id", "path")
"""Columns before the metrics."""


class CasesFile(ImagePaths):
    """Writes `cases_val.csv` and `cases_test.csv` with one row per image or volume.

    The rows come from metrics with a method `cases`, such as those of masks; without one no file is
    written. Undefined values are left empty.

    Args:
        folder: Where the files go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the validation table."""
        if not trainer.sanity_checking:
            self._write("val", pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the test table."""
        self._write("test", pl_module)

    def _write(self, stage: str, lit: Any) -> None:
        sets = lit.metric_sets(stage).items()
        rows = [{"data": source, **row} for source, metrics in sets for row in metrics.cases()]
        if not rows:  # the same on every rank
            return
        known = self.gathered_paths()
        if dist.rank() == 0:
            found = [{**row, "path": known.get((row["data"], row["image_id"]), "")} for row in rows]
            write_csv(self.folder / f"cases_{stage}.csv", table(found))


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Returns header and cells; columns follow `KEYS` in order of first appearance."""
    columns = list(dict.fromkeys((*KEYS, *(key for row in rows for key in row))))
    return [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""
