"""Draws confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from densekit._files import replacing
from densekit.visualization.fonts import choose_font, matplotlib_fonts

LEGIBLE = 40
"""Number of classes up to which names are shown; up to half of it, counts too."""


def draw_confusion(counts: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix, each row normalised by its sum.

    Args:
        counts: (K, K) images, or pixels, by true class (row) and predicted class (column).
        names: K class names.
        path: PNG file; its folder is created.
    """
    with matplotlib_fonts(names):
        _draw([choose_font(name)[0] for name in names], counts, path)


def _draw(names: list[str], counts: NDArray[np.int64], path: Path) -> None:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    side = 3.5 + min(len(names), LEGIBLE) * 0.3
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if len(names) <= LEGIBLE:
        ticks = range(len(names))
        axes.set_xticks(ticks, names, rotation=90)
        axes.set_yticks(ticks, names)
    if len(names) <= LEGIBLE // 2:
        for row, column in np.argwhere(counts > 0):
            colour = "black" if shares[row, column] > 0.6 else "white"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
