"""Masks: colours over the image or over a slice, and how much there is of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from densekit._names import foreground
from densekit.app.demo.canvas import Place, Slices
from densekit.app.demo.thresholds import score_slider
from densekit.app.demo.view import Panel, Rows, Slider
from densekit.data.medical.axes import back, turned_mask
from densekit.inference.restore import restore_mask
from densekit.visualization.masks import draw_mask, with_legend
from densekit.visualization.planes import foreground_of_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.app.demo.canvas import Canvas
    from densekit.inference.pixel_probabilities import PixelProbabilities
    from densekit.inference.thresholds import Threshold

OPACITY = Slider("opacity", 0.0, 1.0, 0.4)


@dataclass(frozen=True)
class Decision:
    """How the mask of a binary or multi-label head follows from a threshold.

    Attributes:
        pixels: Probabilities of the pixels.
        threshold: The one of the model.
    """

    pixels: PixelProbabilities
    threshold: Threshold

    def mask(self, value: float | Sequence[float]) -> NDArray[Any]:
        """The mask at a threshold, in the image's own frame."""
        pixels = self.pixels
        mask = restore_mask(pixels.logits, pixels.sides, pixels.multilabel, value)
        return turned_mask(mask, back(pixels.axes))


class Mask:
    """The mask of an image, a series or a volume.

    Args:
        canvas: The image.
        mask: (*S) classes, or multi-label (K, *S).
        head: `info["heads"][HEAD]`.
        voxel: Cubic millimetres of a voxel; None for anything but volumes.
        decision: How the mask follows from a threshold; None if it does not.
    """

    def __init__(
        self,
        canvas: Canvas,
        mask: NDArray[Any],
        head: Mapping[str, Any],
        voxel: float | None = None,
        decision: Decision | None = None,
    ) -> None:
        self.canvas, self._mask, self._voxel = canvas, mask, voxel
        self._drawn = foreground(head) if head.get("names") else _numbered(mask, canvas)
        self._decision = decision
        self.slider: Slider | None = (
            OPACITY if decision is None else score_slider(decision.threshold)
        )
        self._at = lru_cache(maxsize=1)(self._decided)

    def panel(self, value: float | None, place: Place) -> Panel:
        """The classes in colour, decided at this threshold or of this opacity, with a legend."""
        opacity = OPACITY.start
        if self._decision is None:
            opacity, value = opacity if value is None else value, None
        mask, rows = self._at(value)
        plane = self.canvas.mask(mask, place)
        drawn = draw_mask(self.canvas.picture(place), plane, self._drawn, opacity)
        return Panel(picture=with_legend(drawn, self._drawn), rows=rows)

    def best(self, axis: int) -> int:
        """The slice with the most foreground."""
        if not isinstance(self.canvas, Slices):
            return 0
        turned = self.canvas.turned(self._mask)
        counts = foreground_of_slices(np.moveaxis(turned, axis - 3, -3), self._drawn)
        best = np.flatnonzero(counts == counts.max())
        return int(best[len(best) // 2])

    def _decided(self, value: float | None) -> tuple[NDArray[Any], Rows]:
        """The mask at a threshold, and how much there is of each class."""
        mask = self._mask
        if value is not None and self._decision is not None:
            mask = self._decision.mask(value)
        return mask, _amounts(mask, self.canvas, self._drawn, self._voxel)


def _numbered(mask: NDArray[Any], canvas: Canvas) -> dict[int, str]:
    """Numbers for the names of classes that have none; 0 is taken for the background."""
    if mask.ndim > canvas.dims:
        return {channel: str(channel) for channel in range(len(mask))}
    return {value: str(value) for value in range(1, int(mask.max(initial=0)) + 1)}


def _amounts(
    mask: NDArray[Any], canvas: Canvas, drawn: Mapping[int, str], voxel: float | None
) -> Rows:
    """The pixels of each class and their share, or their volume."""
    planes = mask.ndim > canvas.dims
    counts = {
        value: int(np.count_nonzero(mask[value] == 1 if planes else mask == value))
        for value in drawn
    }
    if voxel is not None:
        cells = [[name, counts[v], round(counts[v] * voxel / 1000, 3)] for v, name in drawn.items()]
        return Rows(("class", "voxels", "millilitres"), cells)
    total = mask[0].size if planes else mask.size
    cells = [[name, counts[v], round(100 * counts[v] / total, 2)] for v, name in drawn.items()]
    return Rows(("class", "pixels", "share in %"), cells)
