"""What a metric says beyond its numbers: plain data that a report draws and a file keeps.

See `densekit.metrics.protocols.HasAnalyses` and `HasSuspects`. Both are computed from the rows of
an evaluation (`densekit.metrics.rows`), without the model. Nothing here knows how it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Cell = str | float | int | None
"""Of a table; None where there is no value."""


@dataclass(frozen=True)
class Table:
    """Rows of plain values, such as one per class.

    Attributes:
        title: What it shows.
        columns: Their headers.
        rows: One cell per column each.
        about: What a reader must know to read it, a sentence or two.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    about: str = ""


@dataclass(frozen=True)
class Curves:
    """Lines over one axis, such as precision over recall.

    Attributes:
        title: What they show.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        lines: Name of each line, such as a class, to its points: two arrays (P,) of equal length.
        about: What a reader must know to read it, a sentence or two.
        marked: Name of a line to the point (x, y) that deserves a mark, such as the best threshold.
        diagonal: Whether x = y is the ideal, as in a reliability diagram.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    about: str = ""
    marked: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    diagonal: bool = False


@dataclass(frozen=True)
class Bars:
    """One value per name, such as the loss of AP by type of error.

    Attributes:
        title: What they show.
        y: Label of the values.
        values: By name, in the order in which they are drawn.
        about: What a reader must know to read it, a sentence or two.
    """

    title: str
    y: str
    values: Mapping[str, float]
    about: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts by two names, such as a confusion matrix.

    Attributes:
        title: What it shows.
        rows: Names of the rows.
        columns: Names of the columns.
        counts: (rows, columns).
        about: What a reader must know to read it, a sentence or two.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: NDArray[np.float64]
    about: str = ""


Analysis = Table | Curves | Bars | Matrix


@dataclass(frozen=True)
class Suspect:
    """An annotation that a confident prediction disagrees with.

    Attributes:
        image_id: The image.
        reason: What disagrees, such as "no box annotated where 'cat' was found".
        confidence: How sure the prediction is, 0 to 1; the list is sorted by it, highest first.
        box: xyxy in the original frame of the image, where the disagreement has a place.
    """

    image_id: int
    reason: str
    confidence: float
    box: tuple[float, float, float, float] | None = None
