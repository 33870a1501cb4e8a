"""Shows findings: a table on the terminal, and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from densekit._console import plain, print_whole
from densekit._files import write_json
from densekit._names import counted
from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.facts import Study
from densekit.app.doctor.findings import ORDER, Finding, Severity
from densekit.app.doctor.statistics import statistics
from densekit.app.terminal import print_lines

SHOWN = 3
"""Findings of a check that the terminal shows."""
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@dataclass(frozen=True)
class Diagnosis:
    """A data set and what the checks found in it.

    Attributes:
        study: The data set.
        findings: The findings, the most severe first.
    """

    study: Study
    findings: Sequence[Finding]

    def counts(self) -> dict[str, int]:
        """Number of findings of each check that has some, in the order of the findings."""
        return {name: len(list(group)) for name, group in groupby(self.findings, _name)}

    def of(self, check: str) -> list[Finding]:
        """The findings of one check."""
        return [finding for finding in self.findings if finding.check == check]


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity and check; within a check the surest first, then as they were found."""
    rank = {name: place for place, name in enumerate(CHECKS)}

    def place(finding: Finding) -> tuple[int, int, str, float]:
        check = finding.check
        return ORDER[finding.severity], rank.get(check, len(rank)), check, -finding.strength

    return sorted(findings, key=place)


def _name(finding: Finding) -> str:
    return finding.check


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Prints the number of images and one row per check that found something."""
    from rich.table import Table

    study = diagnosis.study
    sizes = ", ".join(f"{name} {len(part.examples):,}" for name, part in study.parts.items())
    print_lines(f"{study.name}: {sizes} images; {counted(len(CHECKS), 'check')}")
    if not diagnosis.findings:
        print_lines("nothing found")
        return
    table = Table()
    for column in ("check", "", "count", "what it is, and the first cases"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for name, count in diagnosis.counts().items():
        found = diagnosis.of(name)
        severity = found[0].severity
        about = CHECKS[name].about if name in CHECKS else ""
        text = plain(about, COLOURS[severity])
        for finding in found[:SHOWN]:
            text.append(f"\n{_line(finding)}")
        table.add_row(
            plain(name), plain(severity.value, COLOURS[severity]), plain(f"{count:,}"), text
        )
    print_whole(table)


def _line(finding: Finding) -> str:
    where = " ".join(filter(None, (finding.split, Path(finding.file).name if finding.file else "")))
    return f"{where}: {finding.message}" if where else finding.message


def write_report(file: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """Writes every finding and the statistics of the labels as JSON."""
    write_json(file, {"data": [_as_json(diagnosis) for diagnosis in diagnoses]})


def _as_json(diagnosis: Diagnosis) -> Mapping[str, Any]:
    return {
        "name": diagnosis.study.name,
        "images": {name: len(part.examples) for name, part in diagnosis.study.parts.items()},
        "counts": diagnosis.counts(),
        "findings": [finding.row() for finding in diagnosis.findings],
        "statistics": statistics(diagnosis.study),
    }
