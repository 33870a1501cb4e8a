"""Speed of every row as bars, one panel per work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from densekit._files import replacing
from densekit.app.studies.benchmark.report import Report
from densekit.app.studies.benchmark.work import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEER_COLOR, OUR_COLOR = "#9aa5b1", "#1f77b4"
COLUMNS = 2
BAR, TITLE = 0.26, 0.55
"""Inches per bar and per title."""
LINE = 50
"""Characters per line of a title."""


def draw(reports: Sequence[Report], file: Path) -> None:
    """Draws how many times faster each row is than the first one of its work.

    Args:
        reports: One per panel.
        file: PNG.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(reports))
    rows = -(-len(reports) // columns)
    most = max(len(_timed(report)) for report in reports)
    figure = Figure(figsize=(6 * columns, rows * (BAR * most + TITLE)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, report in zip(panels.flat, reports, strict=False):
        _panel(axes, report)
    for axes in panels.flat[len(reports) :]:
        axes.axis("off")
    with replacing(file) as part:
        figure.savefig(part, dpi=100, format="png")


def _timed(report: Report) -> list[tuple[str, float]]:
    return [(row.name, row.speedup) for row in report.rows if row.speedup is not None]


def _panel(axes: Axes, report: Report) -> None:
    names, speeds = zip(*_timed(report), strict=True)
    colors = [OUR_COLOR if name.startswith(OURS) else PEER_COLOR for name in names]
    bars = axes.barh(names, speeds, color=colors)
    axes.bar_label(bars, [f"{speed:.1f}x" for speed in speeds], padding=3, fontsize=8)
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.set_title(fill(report.title, LINE), fontsize=9, loc="left")
    axes.set_xlim(right=1.12 * max(speeds))
    axes.tick_params(labelsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
