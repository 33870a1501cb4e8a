"""Writes masks of series as tables, and draws them over their series.

Shape letters: L the length of a series, C its channels, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_csv
from densekit.app.results.masks import MaskClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SeriesMaskWriter:
    """Writes `masks/NAME.csv`, one row per position, and overlays."""

    largest = (1 << 16) - 1

    def write(self, mask: NDArray[Any], classes: MaskClasses, file: Path) -> None:
        """Writes a mask: one column `value`, or one 0/1 column per class if classes overlap.

        Args:
            mask: (L,) classes or multi-label (K, L).
            classes: Of its head.
            file: Without suffix.
        """
        if classes.multilabel:
            names, rows = list(classes.drawn.values()), mask[list(classes.drawn)].T.tolist()
        else:
            table = classes.table(self.largest)
            names, rows = ["value"], [[table[value]] for value in mask.tolist()]
        write_csv(file.with_name(file.name + ".csv"), [names, *rows])

    def draw(
        self, image: NDArray[Any], mask: NDArray[Any], classes: MaskClasses, file: Path
    ) -> None:
        """Draws the classes over the series (L, C), with a legend below."""
        from densekit.visualization.images import save_picture
        from densekit.visualization.masks import overlay
        from densekit.visualization.series import draw_series, series_bands

        save_picture(overlay(draw_series(image), series_bands(mask), classes.drawn), file)
