"""Reports metrics: tables on the terminal, and `metrics.json`."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_json
from densekit._names import readable, visible

if TYPE_CHECKING:
    from rich.table import Table

from densekit._console import table_of

STAGES = ("val", "test")


NOISE = (
    *("GPU available", "TPU available", "💡 Tip"),
    *("`Trainer(limit_val_batches=1.0)`", "`Trainer(limit_test_batches=1.0)`"),
    "`Trainer.fit` stopped",  # the run says it for every kind of end
)
"""Beginnings of log lines of Lightning that are of no use to the user of a command."""

NOISY_WARNINGS = (
    *(r"`isinstance\(treespec, LeafSpec\)`", "No complete tensor found in the group"),
    r"`ModelCheckpoint\(monitor=",  # unknown names are refused before the first step
)
"""Beginnings of warnings of Lightning and torch about their own internals."""


@contextmanager
def console_logging(level: int = logging.INFO) -> Iterator[None]:
    """Shows densekit's log on the terminal while a command runs; the library itself is silent.

    Args:
        level: Lowest level that is shown.
    """
    log, handler = logging.getLogger("densekit"), logging.StreamHandler()
    lightning = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    handler.setFormatter(_Visible("%(message)s"))
    before, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    lightning.addFilter(_is_useful)
    try:
        with warnings.catch_warnings():
            for message in NOISY_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        lightning.removeFilter(_is_useful)
        log.removeHandler(handler)
        log.setLevel(before)
        log.propagate = propagate


class _Visible(logging.Formatter):
    """Prints names of users literally, also those that would colour or clear a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _is_useful(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def write_metrics(metrics: Mapping[str, float], file: Path) -> None:
    """Writes flat metrics as JSON, NaN as null, since JSON has no NaN."""
    write_json(file, metrics)


def read_metrics(file: Path) -> dict[str, float]:
    """Reads the numbers of a file of `write_metrics`, null as NaN."""
    numbers = {k: v for k, v in _read(file).items() if not isinstance(v, str | dict)}
    return {name: math.nan if value is None else float(value) for name, value in numbers.items()}


def read_end(file: Path) -> str | None:
    """Reads why a training ended from its file of metrics; None while it is not over."""
    stopped: str | None = _read(file).get("stopped") if file.is_file() else None
    return stopped


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def print_table(metrics: Mapping[str, float], title: str) -> None:
    """Prints one row per metric and one column per stage (`val/`, `test/`).

    Args:
        metrics: Flat metrics, `STAGE/HEAD/METRIC`; without a stage they fill one column.
        title: Title of the table.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        stage, slash, metric = name.partition("/")
        if slash and stage in STAGES:
            rows.setdefault(metric, {})[stage] = value
        else:
            rows.setdefault(name, {})[""] = value
    stages = [stage for stage in ("", *STAGES) if any(stage in row for row in rows.values())]
    lines = [
        [name, *(number_text(row.get(stage)) for stage in stages)] for name, row in rows.items()
    ]
    print_numbers(["metric", *stages], lines, title)


def print_numbers(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table with names in the first column and numbers in the others."""
    print_whole(table_of(title, columns, rows))


def print_whole(table: Table) -> None:
    """Prints a rich table that breaks lines only between words, so that names can be copied.

    If the words do not fit, the table is wider than the terminal.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    wide = console.options.update(max_width=10_000)
    least, most = [], []
    for column in table.columns:
        cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
        least.append(max(cell.minimum for cell in cells))
        most.append(max(cell.maximum for cell in cells))
    frame = Measurement.get(console, wide, table).maximum - sum(most)
    widths = shares(least, most, console.width - frame)
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    Console(width=max(console.width, sum(widths) + frame)).print(table)


def shares(least: Sequence[int], most: Sequence[int], total: int) -> list[int]:
    """Divides a total width fairly among columns, each between its least and its most."""
    widths, spare = list(least), total - sum(least)
    by_need = sorted(range(len(widths)), key=lambda column: most[column] - least[column])
    for index, column in enumerate(by_need):
        share = max(0, spare // (len(widths) - index))
        share = min(share, most[column] - least[column])
        widths[column] += share
        spare -= share
    return widths


def print_lines(*lines: str) -> None:
    """Prints lines without wrapping, so that paths stay whole."""
    for line in lines:
        print(visible(line))


def quoted(path: Any) -> str:
    """A path quoted for the shell, whatever its characters, including bytes that are not UTF-8."""
    import shlex

    text = str(path)
    if readable(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{readable(escaped)}'"


def number_text(value: float | None) -> str:
    """A number as text in a table; empty for None."""
    if value is None:
        return ""
    return "nan" if math.isnan(value) else f"{value:.4f}"
