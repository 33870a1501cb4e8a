"""Writes boxes and masks as YOLO txt: one label file per image, coordinates relative to it.

N boxes, H, W the size of an image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_text
from densekit.ops.polygons import polygon_area
from densekit.ops.run_lengths import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.app.results.masks import MaskClasses

DIGITS = 6


class YoloWriter:
    """Writes a label file per image; `close` writes the class names beside them."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add_boxes(
        self,
        head: str,
        result: Mapping[str, Any],
        size: tuple[int, int],
        names: Sequence[str],
        file: Path,
    ) -> None:
        """Writes the rows `class x y w h score` of an image; with masks `class x1 y1 ... score`.

        A mask is written as the outline of its largest connected region, its holes filled; one
        without a pixel is left out.

        Args:
            head: Name of the head.
            result: boxes (N, 4), scores (N,) and labels (N,) of the image, and perhaps masks.
            size: Its height and width.
            names: Class names of the head.
            file: The label file.
        """
        self.names[head] = list(names)
        if "masks" in result:
            places = [largest_outline(decode([mask], size)[0]) for mask in result["masks"]]
        else:
            places = [_relative(box, size) for box in result["boxes"].tolist()]
        columns = places, result["scores"].tolist(), result["labels"].tolist()
        rows = [
            _row(label, [*place, score])
            for place, score, label in zip(*columns, strict=True)
            if place
        ]
        write_text(file, "".join(rows))

    def add_mask(self, head: str, mask: NDArray[Any], classes: MaskClasses, file: Path) -> None:
        """Writes one row `class x1 y1 x2 y2 ...` per connected region; holes are filled.

        Args:
            head: Name of the head.
            mask: (H, W) classes or multi-label (K, H, W).
            classes: Of its head; the background is not written, the others are numbered from 0.
            file: The label file.
        """
        self.names[head] = list(classes.drawn.values())
        planes = [mask[k] == 1 if mask.ndim == 3 else mask == k for k in classes.drawn]
        rows = [_row(n, points) for n, plane in enumerate(planes) for points in outlines(plane)]
        write_text(file, "".join(rows))

    def close(self, output: Path) -> None:
        """Writes the class names into `data.yaml`; of several heads into `data_HEAD.yaml`."""
        import yaml

        for head, names in self.names.items():
            name = "data.yaml" if len(self.names) == 1 else f"data_{head}.yaml"
            content = {"nc": len(names), "names": dict(enumerate(names))}
            write_text(output / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def largest_outline(plane: NDArray[Any]) -> list[float]:
    """The outline of the largest connected region of a plane (H, W), empty without any."""
    return max(outlines(plane), key=polygon_area, default=[])


def outlines(plane: NDArray[Any]) -> list[list[float]]:
    """The outlines of the connected regions of a plane.

    They run a quarter of a pixel inside the edges of the region, so that drawing them fills exactly
    its pixels and its holes.

    Args:
        plane: (H, W) bool.

    Returns:
        For each region x, y, x, y, ... relative to the image.
    """
    import cv2
    import numpy as np

    height, width = plane.shape
    fine: NDArray[Any] = np.kron(plane.astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([2 * width, 2 * height], np.float64)
    return [((contour[:, 0] + 0.5) / scale).ravel().tolist() for contour in contours]


def _relative(box: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Centre and sides of a box, relative to the image."""
    (left, top, right, bottom), (height, width) = box, size
    centre = (left + right) / 2 / width, (top + bottom) / 2 / height
    return [*centre, (right - left) / width, (bottom - top) / height]


def _row(number: int, values: Sequence[float]) -> str:
    return " ".join([str(number), *(f"{value:.{DIGITS}g}" for value in values)]) + "\n"
