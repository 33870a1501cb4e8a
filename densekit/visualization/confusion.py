"""Confusion matrices as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from densekit._files import replacing
from densekit.visualization.fonts import choose_font, matplotlib_fonts

LEGIBLE = 40
"""Classes up to which a matrix is labelled with names; up to half as many it shows counts too."""


def draw_confusion(counts: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix, each row as shares of its class.

    Args:
        counts: (K, K) images, or pixels, by their class (row) and the predicted class (column).
        names: K class names.
        path: PNG file; its folder is made.
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
        places = range(len(names))
        axes.set_xticks(places, names, rotation=90)
        axes.set_yticks(places, names)
    if len(names) <= LEGIBLE // 2:
        for row, column in np.argwhere(counts > 0):
            colour = "black" if shares[row, column] > 0.6 else "white"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
