"""Who is taken for whom, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from densekit.visualization.fonts import in_figures, lettering

LEGIBLE = 40
"""Classes up to which the picture has names; up to half of them it has numbers too."""


class Confusion(Callback):
    """Draws `confusion_val.png` and `confusion_test.png` of the heads that have such a matrix.

    With several heads or data sets their names stand in the file's name too.

    Args:
        folder: Where the pictures go; they are overwritten.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws validation."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the test."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, lit: Any, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        found = {
            (source, head): table
            for source, heads in lit.confusions(stage).items()
            for head, table in heads.items()
        }
        for (source, head), (names, counts) in found.items():
            if counts.any():
                more = f"_{source}_{head}" if len(found) > 1 else ""
                draw_confusion(counts, names, self.folder / f"confusion_{stage}{more}.png")


def draw_confusion(counts: NDArray[np.int64], names: list[str], path: Path) -> None:
    """Draws a confusion matrix, each row in shares of its class.

    Args:
        counts: (K, K) images by their class (row) and the predicted one (column).
        names: K class names.
        path: The picture.
    """
    with in_figures(names):
        _draw([lettering(name)[0] for name in names], counts, path)


def _draw(names: list[str], counts: NDArray[np.int64], path: Path) -> None:
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    side = 3.5 + min(len(names), LEGIBLE) * 0.3
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
