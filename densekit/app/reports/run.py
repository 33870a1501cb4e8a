"""Reads one or two runs and writes their report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.app.errors import UsageError
from densekit.app.pages import write_page
from densekit.app.reports.folder import Run, read_run
from densekit.app.reports.page import page
from densekit.app.reports.pictures import Pictures
from densekit.app.reports.sections import sections

NAME = "report.html"


def report(
    places: Sequence[Path],
    output: Path | None,
    split: str | None,
    *,
    resamples: int,
    trust: Sequence[str] = (),
) -> Path:
    """Writes the page and returns its file.

    Args:
        places: One or two run folders.
        output: The page; None for `report.html` in the first folder.
        split: "test" or "val"; None for the test if there is one.
        resamples: Draws of the images for the differences of two runs.
        trust: Packages whose metrics and data sets may be built.

    Raises:
        UsageError: A folder is no run, or the page cannot be written there.
    """
    file = (output or places[0] / NAME).absolute()
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(f"output: expected a file in an existing folder, got {output}")
    first = read_run(places[0], "RUN", split, trust)
    other = read_run(places[1], "RUN2", split, trust) if len(places) > 1 else None
    shown = sections(first, other, resamples)
    write_page(
        file, page(_heading(first, other), _subtitle(first), shown, Pictures(first, tuple(trust)))
    )
    return file


def _heading(first: Run, other: Run | None) -> str:
    return first.name if other is None else f"{first.name} and {other.name}"


def _subtitle(run: Run) -> str:
    """What the model is: backbone, neck, heads and data."""
    node = run.config.get("backbone") or {}
    kind = str(node.get("name") or node.get("depth") or "")
    backbone = f"{_class(node)} {kind}".strip()
    heads = [f"{name} ({_class(node)})" for name, node in (run.config.get("heads") or {}).items()]
    data = list(run.config.get("data") or {})
    return " · ".join(filter(None, [backbone, ", ".join(heads), ", ".join(map(str, data))]))


def _class(node: object) -> str:
    target = node.get("_target_") if isinstance(node, dict) else None
    return str(target or "").rpartition(".")[2]
