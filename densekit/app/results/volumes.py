"""Writes masks of volumes as NIfTI in the frame of their source, and draws slices.

Shape letters: z, y, x the sides of a volume, C its channels, K classes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.results.masks import MaskClasses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.data.medical.grids import Volume

COLUMNS, ROWS = 4, 3
"""Grid of slices in an overlay."""


class VolumeWriter:
    """Writes `masks/NAME.nii.gz` with the source's affine and header, and overlays."""

    largest = (1 << 16) - 1

    def write(self, mask: NDArray[Any], classes: MaskClasses, file: Path, like: Volume) -> None:
        """Writes a mask; overlapping regions as one label map if their order is known.

        Args:
            mask: (z, y, x) classes or multi-label (K, z, y, x).
            classes: Of its head.
            file: Without suffix.
            like: The volume that was predicted.
        """
        from densekit.data.medical.volumes import write_mask

        file.parent.mkdir(parents=True, exist_ok=True)
        stored = partial(self._stored, classes)
        write_mask(file.with_name(file.name + ".nii.gz"), mask, like, stored)

    def _stored(self, classes: MaskClasses, mask: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        if classes.multilabel:
            return classes.label_map(mask) if classes.order else mask
        table = classes.table(self.largest)
        values: NDArray[Any] = np.array(table, np.uint8 if max(table) < 256 else np.uint16)[mask]
        return values

    def draw(self, image: Volume, mask: NDArray[Any], classes: MaskClasses, file: Path) -> None:
        """Draws slices along z, as stored, stretched together, with the classes over them."""
        from densekit.visualization.images import save_picture, to_grey
        from densekit.visualization.masks import draw_mask, with_legend
        from densekit.visualization.panels import grid
        from densekit.visualization.planes import evenly_spread_slices

        shown = evenly_spread_slices(mask, classes.drawn, COLUMNS * ROWS)
        greys = to_grey(image.image[..., 0][shown])  # (n, y, x)
        cells = [
            draw_mask(grey, mask[..., z, :, :], classes.drawn)
            for z, grey in zip(shown, greys, strict=True)
        ]
        save_picture(with_legend(grid(cells, COLUMNS), classes.drawn), file)
