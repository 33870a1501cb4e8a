"""Reports of a benchmark: a table on the terminal, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from densekit._files import write_json, write_text
from densekit.app.errors import UsageError
from densekit.app.studies.benchmark.machine import Machine
from densekit.app.studies.benchmark.timing import Measured
from densekit.app.terminal import print_lines, print_numbers

MISSING = "-"
NOTES = {
    "peak memory": "bytes of one step, of training of two, beyond what was allocated before"
    " (without the weights): on a CPU the resident memory of the process, on a GPU"
    " torch's allocator",
    "GFLOP": "of the convolutions and matrix products of one step, counted by"
    " torch.utils.flop_counter in eager mode",
    "of peak": "GFLOP per second over those of a 3x3 convolution of 256 channels in the same"
    " precision",
    "agreement": "share of boxes (same class, IoU of at least 0.9) or pixels equal to those of"
    " densekit's eager fp32 row",
}
"""What the columns mean that are not plain."""


@dataclass(frozen=True)
class Report:
    """The results of one benchmark.

    Attributes:
        command: What was typed.
        title: See `Work`.
        proof: See `Work`.
        rounds: Timed rounds.
        machine: Where it ran.
        rows: Measurements; the first is what the others are compared with.
    """

    command: str
    title: str
    proof: str
    rounds: int
    machine: Machine
    rows: Sequence[Measured]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that some row fills."""
        return [name for name in _COLUMNS if any(self._cell(row, name) for row in self.rows)]

    def lines(self) -> list[list[str]]:
        """The cells of every row, its name first; `-` is what could not be measured."""
        return [
            [row.name, *(self._cell(row, name) or MISSING for name in self.columns)]
            for row in self.rows
        ]

    @property
    def reasons(self) -> list[str]:
        """Why rows were not timed."""
        return [f"{row.name}: {row.reason}" for row in self.rows if row.reason]

    def _cell(self, row: Measured, column: str) -> str:
        value, text = _COLUMNS[column]
        found = getattr(row, value)
        return "" if found is None else text(found)


_COLUMNS: Mapping[str, tuple[str, Any]] = {
    "seconds": ("seconds", "{:.3g}".format),
    "speed": ("speedup", "{:.2f}x".format),
    "peak memory": ("memory", lambda value: f"{value / 2**20:,.0f} MiB"),
    "parameters": ("parameters", lambda value: f"{value / 1e6:.1f} M"),
    "GFLOP": ("flops", lambda value: f"{value / 1e9:,.0f}"),
    "of peak": ("share", "{:.0%}".format),
    "agreement": ("agreement", "{:.1%}".format),
}


def print_report(report: Report) -> None:
    """Prints the table, what its columns mean, and why rows are missing."""
    print_lines(str(report.machine), f"equal: {report.proof}", "")
    print_numbers(["", *report.columns], report.lines(), _caption(report))
    print_lines(*report.reasons, *_notes(report))


def write_report(report: Report, file: Path) -> None:
    """Writes JSON or Markdown, by the suffix of the file."""
    if file.suffix == ".json":
        write_json(file, asdict(report))
    else:
        write_text(file, "\n".join(markdown(report)) + "\n")


def read_report(file: Path) -> Report:
    """Reads the JSON of `write_report`."""
    values = json.loads(file.read_text(encoding="utf-8"))
    machine = Machine(**values.pop("machine"))
    return Report(
        **{**values, "machine": machine, "rows": [Measured(**row) for row in values["rows"]]}
    )


def markdown(report: Report) -> list[str]:
    """Lines of a section with the command, the table and the notes."""
    return [
        *("```bash", report.command, "```", ""),
        f"{_caption(report)}. Equal: {report.proof}. {report.machine}.",
        "",
        *markdown_table(["", *report.columns], report.lines()),
        *(["", *(f"- {line}" for line in report.reasons)] if report.reasons else []),
    ]


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with names on the left and numbers on the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def check_file(key: str, value: str | None, *suffixes: str) -> Path | None:
    """The file of an option, refused before any work if its kind is unknown.

    Raises:
        UsageError: It has another suffix, or lies in no folder.
    """
    if value is None:
        return None
    file = Path(value).expanduser()
    if file.suffix not in suffixes:
        raise UsageError(f"{key}: expected a file with {' or '.join(suffixes)}, got {value}")
    if not file.parent.is_dir():
        raise UsageError(f"{key}: expected a file in an existing folder, got {value}")
    return file


def _caption(report: Report) -> str:
    return f"{report.title}; median of {report.rounds} rounds, speed relative to the first row"


def _notes(report: Report) -> list[str]:
    return [f"{name}: {NOTES[name]}" for name in report.columns if name in NOTES]
