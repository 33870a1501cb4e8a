"""Reports metrics: tables on the terminal, and `metrics.json`."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from densekit._console import print_whole, table_of
from densekit._files import write_json
from densekit._names import readable, visible

STAGES = ("val", "test")


LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed")
"""Loggers of Lightning that speak to the user."""

NOISE = (
    *("GPU available", "TPU available", "💡 Tip"),
    *("Using bfloat16 Automatic", "Using 16bit Automatic"),  # the run says its precision
    *("Restoring states from the checkpoint", "Restored all states from the checkpoint"),
    "Loaded model weights from the checkpoint",
    *("`Trainer(limit_val_batches=1.0)`", "`Trainer(limit_test_batches=1.0)`"),
    "`Trainer.fit` stopped",  # the run says it for every kind of end
    *("Initializing distributed", "-" * 100),  # the run says how many processes it has
)
"""Beginnings of log lines of Lightning that are of no use to the user of a command."""

NOISY_WARNINGS = (
    *(r"`isinstance\(treespec, LeafSpec\)`", "No complete tensor found in the group"),
    r"`ModelCheckpoint\(monitor=",  # unknown names are refused before the first step
    r"Total length of `\w+` across ranks is zero",  # a data set without that split
    r"The '\w+' does not have many workers",  # a run measures whether it waits for its loader
    r"It is recommended to use `self\.log\('time/",  # the times are those of one process
    # Of 1 x 1 weights, whose strides are ambiguous.
    r"Grad strides do not match[\s\S]*?grad\.sizes\(\) = \[\d+, \d+(, 1)+\]",
    r"The number of training batches \(\d+\) is smaller than the logging",  # steps count on
)
"""Beginnings of warnings of Lightning and torch about their own internals."""


@contextmanager
def console_logging(level: int = logging.INFO) -> Iterator[None]:
    """Shows densekit's log on the terminal while a command runs; the library itself is silent.

    Args:
        level: Lowest level that is shown.
    """
    log, handler = logging.getLogger("densekit"), logging.StreamHandler(_Stderr())
    handler.setFormatter(_Visible("%(message)s"))
    handler.addFilter(_NoRepeats())
    before, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        with _lightning_through(handler), warnings.catch_warnings():
            for message in NOISY_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        log.propagate = propagate


@contextmanager
def _lightning_through(handler: logging.Handler) -> Iterator[None]:
    """Shows what is useful of Lightning's log by a handler of this module.

    Lightning's own keeps the stream that it began with, below any progress bar.
    """
    logs = [logging.getLogger(name) for name in LIGHTNING]
    propagate = [log.propagate for log in logs]
    for log in logs:
        log.propagate = False
        log.addHandler(handler)
        log.addFilter(_is_useful)
    try:
        yield
    finally:
        for log, before in zip(logs, propagate, strict=True):
            log.removeFilter(_is_useful)
            log.removeHandler(handler)
            log.propagate = before


class _Stderr:
    """Standard error as it is when something is written.

    A progress bar in a terminal replaces it, so that lines are printed above the bar; one that is a
    file remains one.
    """

    def write(self, text: str) -> int:
        stream: Any = sys.stderr
        if not stream.isatty():
            stream = getattr(stream, "rich_proxied_file", stream)
        return int(stream.write(text))

    def flush(self) -> None:
        sys.stderr.flush()


class _Visible(logging.Formatter):
    """Prints names of users literally, also those that would colour or clear a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _NoRepeats(logging.Filter):
    """Leaves out what was just said, such as facts of a folder that three splits are read from."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        text, before = record.getMessage(), self._last
        self._last = text
        return text != before or record.levelno > logging.INFO


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
