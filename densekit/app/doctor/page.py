"""The report as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from densekit._files import write_text
from densekit._names import readable
from densekit.app.doctor.checks import candidates
from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.facts import Box
from densekit.app.doctor.findings import Finding
from densekit.app.doctor.report import Diagnosis
from densekit.app.doctor.statistics import statistics
from densekit.app.doctor.thumbnails import thumbnail
from densekit.app.pages import rendered
from densekit.data.reading.files import IMAGE_SUFFIXES

LISTED = 200
"""Findings of a check that the page lists."""
PICTURES = 6
"""Thumbnails of a check."""
FIRST = 20
"""Label-error candidates that are shown together."""


def write_page(file: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """Writes findings with thumbnails, and statistics of the labels.

    Args:
        file: The HTML file.
        diagnoses: One per data set.
    """
    pages = [_page(diagnosis) for diagnosis in diagnoses]
    write_text(file, rendered("doctor.html.txt", pages=pages))


def _page(diagnosis: Diagnosis) -> dict[str, Any]:
    study = diagnosis.study
    broken = {
        str(file)
        for _, example in study.each()
        if example.is_broken
        for file in (example.file, *example.mask_files)
    }
    return {
        "name": study.name,
        "images": {name: len(part.examples) for name, part in study.parts.items()},
        "suspects": _pictures(suspects(diagnosis.findings), broken, FIRST),
        "checks": [_check(name, diagnosis.of(name), broken) for name in diagnosis.counts()],
        "statistics": statistics(study),
    }


def suspects(findings: Sequence[Finding]) -> list[Finding]:
    """Label-error candidates of all kinds in turn, of each the surest first.

    A kind of which there are hundreds, such as objects that nobody annotates, hides no other one.
    """
    kinds = [[f for f in findings if f.check == check.name] for check in candidates.CHECKS]
    found = [sorted(kind, key=lambda finding: -finding.strength) for kind in kinds]
    return [finding for row in zip_longest(*found) for finding in row if finding is not None]


def _check(name: str, found: Sequence[Finding], broken: set[str]) -> dict[str, Any]:
    return {
        "name": name,
        "about": CHECKS[name].about if name in CHECKS else "",
        "severity": found[0].severity.value,
        "count": len(found),
        "findings": [_readable(finding) for finding in found[:LISTED]],
        "pictures": _pictures(found, broken, PICTURES),
    }


def _readable(finding: Finding) -> dict[str, str]:
    shown = {"split": finding.split, "file": finding.file, "message": finding.message}
    return {key: readable(value) for key, value in shown.items()}


def _pictures(found: Sequence[Finding], broken: set[str], most: int) -> list[dict[str, str]]:
    """Thumbnails of the first cases whose image can be read; a broken one is not opened again."""
    shown: list[dict[str, str]] = []
    seen = set[tuple[str, Box | None]]()
    for finding in found:
        path, case = Path(finding.file), (finding.file, finding.box)
        if len(shown) == most:
            break
        if case in seen or finding.file in broken or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        seen.add(case)
        if source := thumbnail(path, finding.box):
            told = readable(finding.message)
            shown.append({"file": readable(path.name), "message": told, "source": source})
    return shown
