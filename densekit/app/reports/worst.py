"""The images with the worst values, and how the values of all images are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densekit._names import counted
from densekit.app.reports.blocks import Block, Note, Picture
from densekit.app.reports.names import ImageNames
from densekit.app.reports.overlays import Overlays
from densekit.evaluation import Evaluation, Measured
from densekit.metrics.analyses import Bars
from densekit.metrics.protocols import HasCases

MOST = 24
"""Pictures of a gallery."""
SHOWN_COLUMNS = 5
BINS = 10
IMAGES_BY = "Images by "
"""How the title of a distribution begins, before the name of the value."""


def worst_images(evaluation: Evaluation, measured: Sequence[Measured]) -> list[Block]:
    """A gallery of the worst images of a head, by its first metric of single images.

    Args:
        evaluation: The evaluation.
        measured: The metrics of one head on one data set.
    """
    one = next((one for one in measured if isinstance(one.metric, HasCases)), None)
    if one is None:
        return []
    assert isinstance(one.metric, HasCases)
    rows = one.metric.cases()
    column = judged_by(rows)
    if column is None:
        return []
    higher = one.metric.higher_is_better is not False
    ranked = _worst_first(rows, column, higher)
    overlays = Overlays.of(evaluation, measured)
    names = ImageNames(evaluation.paths.get(one.data, {}))
    pictures = [_picture(overlays, names, row) for row in ranked[:MOST]]
    order = "lowest" if higher else "highest"
    about = f"The {order} {column} first, of {counted(len(rows), 'image')}."
    blocks: list[Block] = []
    if spread := _distribution(rows, column):
        blocks.append(spread)
    if not pictures:
        return [*blocks, Note(f"Every image that has a {column} is at its best.")]
    return [*blocks, overlays.gallery("Worst images", about, pictures)]


def judged_by(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The first column of numbers of the cases, by which images are ordered."""
    example = rows[0] if rows else {}
    return next((n for n, v in example.items() if n != "image_id" and isinstance(v, float)), None)


def caption(row: Mapping[str, Any]) -> list[str]:
    """The first values of an image as lines."""
    shown = [(name, value) for name, value in row.items() if name != "image_id"]
    return [f"{name} {_text(value)}" for name, value in shown[:SHOWN_COLUMNS]]


def _worst_first(
    rows: Sequence[Mapping[str, Any]], column: str, higher: bool
) -> list[Mapping[str, Any]]:
    """Rows that are not perfect; of equally bad ones the most confident first."""
    perfect = 1.0 if higher else 0.0
    wrong = [row for row in rows if not math.isnan(row[column]) and row[column] != perfect]
    sign = 1 if higher else -1
    return sorted(wrong, key=lambda row: (sign * row[column], -row.get("confidence", 0.0)))


def _picture(overlays: Overlays, names: ImageNames, row: Mapping[str, Any]) -> Picture:
    view = overlays.view(row["image_id"])
    return Picture([view], names.of(row["image_id"], view.image.slice), caption(row))


def _distribution(rows: Sequence[Mapping[str, Any]], column: str) -> Bars | None:
    """How many images have which value; None if there are only a few different ones."""
    values = np.array([row[column] for row in rows], dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(np.unique(values)) <= BINS:
        return None
    unit = values.min() >= 0 and values.max() <= 1
    counts, edges = np.histogram(values, BINS, (0, 1) if unit else None)
    bins = {
        f"{low:.3g} to {high:.3g}": n
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    }
    return Bars(f"{IMAGES_BY}{column}", "images", {name: float(n) for name, n in bins.items()})


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if value.is_integer() and abs(value) >= 2 else f"{value:.3g}"
