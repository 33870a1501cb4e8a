"""The report as one HTML page that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from densekit._extras import need
from densekit._files import write_text
from densekit._names import readable
from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.findings import Finding
from densekit.app.doctor.report import Diagnosis
from densekit.app.doctor.statistics import statistics
from densekit.data.reading.files import IMAGE_SUFFIXES

TEMPLATE = Path(__file__).parents[1] / "templates" / "doctor.html.txt"
LISTED = 200
"""Findings of a check that the page lists."""
PICTURES = 6
"""Thumbnails of a check."""
SIDE = 160
"""Longer side of a thumbnail."""


def write_page(file: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """Writes findings with thumbnails, and statistics of the labels.

    Args:
        file: The HTML file.
        diagnoses: One per data set.
    """
    jinja2 = need("jinja2", "writing the page", "doctor")
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text("utf-8"))
    write_text(file, template.render(pages=[_page(diagnosis) for diagnosis in diagnoses]))


def _page(diagnosis: Diagnosis) -> dict[str, Any]:
    study = diagnosis.study
    return {
        "name": study.name,
        "images": {name: len(part.examples) for name, part in study.parts.items()},
        "checks": [_check(name, diagnosis.of(name)) for name in diagnosis.counts()],
        "statistics": statistics(study),
    }


def _check(name: str, found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "name": name,
        "about": CHECKS[name].about if name in CHECKS else "",
        "severity": found[0].severity.value,
        "count": len(found),
        "findings": [_readable(finding) for finding in found[:LISTED]],
        "pictures": _pictures(found),
    }


def _readable(finding: Finding) -> dict[str, str]:
    return {key: readable(value) for key, value in finding.row().items()}


def _pictures(found: Sequence[Finding]) -> list[dict[str, str]]:
    """Thumbnails of the first images that can be read."""
    shown: list[dict[str, str]] = []
    for file in dict.fromkeys(finding.file for finding in found):
        if len(shown) == PICTURES:
            break
        if Path(file).suffix.lower() in IMAGE_SUFFIXES and (source := _thumbnail(Path(file))):
            shown.append({"file": readable(Path(file).name), "source": source})
    return shown


def _thumbnail(file: Path) -> str:
    """A JPEG as a data URI; empty for a file that cannot be read."""
    try:
        with Image.open(file) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
    except Exception:  # Pillow raises errors of any type; the report says what is wrong
        return ""
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
