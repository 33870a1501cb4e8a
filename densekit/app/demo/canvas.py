"""What results are drawn on: an image, a series or a volume as pictures of a fitting size.

Shape letters: H and W the sides of a picture, S those of an image along its axes, C its channels,
K classes; z, y, x the axes of a volume, slowest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.axes import axes_to, turned_sides, turned_view
from densekit.data.medical.grids import Volume
from densekit.ops.interpolation import nearest_centres
from densekit.visualization.images import (
    READABLE_SIDE,
    Picture,
    at_most,
    enlarged,
    resized,
    to_grey,
)
from densekit.visualization.series import draw_series, series_bands

LARGEST = 1280
"""Longer side of a picture on the page; results are computed in full."""
BODY, STORED = ("axial", "coronal", "sagittal"), ("z", "y", "x")
"""Names of a volume's axes, where the file states its orientation and where it does not."""
DISPLAY = "LPS"
"""Right is left, as radiologists see it: the patient's right hand is on the left of the picture."""


@dataclass(frozen=True)
class Place:
    """Which slice of a volume is shown.

    Attributes:
        axis: Across which it is cut, 0 to 2.
        index: From 0.
    """

    axis: int = 0
    index: int = 0


class Canvas(Protocol):
    """An image as pictures.

    Attributes:
        axes: Names of the axes to cut along; empty if there is one picture.
        lengths: Slices along each of them.
        dims: Axes of the image.
    """

    axes: tuple[str, ...]
    lengths: tuple[int, ...]
    dims: int

    def picture(self, place: Place) -> Picture:
        """The picture (H, W, 3) of a place."""

    def mask(self, mask: NDArray[Any], place: Place) -> NDArray[Any]:
        """A mask (*S) or (K, *S) in the frame of the picture: (H, W) or (K, H, W)."""


class Flat:
    """A 2-D image.

    Args:
        image: (H, W, C).
    """

    axes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    dims = 2

    def __init__(self, image: NDArray[Any]) -> None:
        self._picture = at_most(image, LARGEST)
        self.scale = self._picture.shape[1] / image.shape[1], len(self._picture) / len(image)

    def picture(self, place: Place) -> Picture:
        """The image, shrunk to `LARGEST` if it is larger."""
        return self._picture

    def mask(self, mask: NDArray[Any], place: Place) -> NDArray[Any]:
        """Every n-th pixel of the mask."""
        return _sampled(mask, self._picture.shape[:2])


class Lines:
    """A series, drawn as lines.

    Args:
        values: (L, C), L positions.
    """

    axes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    dims = 1

    def __init__(self, values: NDArray[Any]) -> None:
        self._picture = draw_series(values)

    def picture(self, place: Place) -> Picture:
        """The lines."""
        return self._picture

    def mask(self, mask: NDArray[Any], place: Place) -> NDArray[Any]:
        """Bands of colour behind the lines."""
        return series_bands(mask)


class Slices:
    """A volume, slice by slice, in the proportions of the body.

    It is turned to `DISPLAY` if the file states its orientation.

    Args:
        volume: Its first channel is shown.
    """

    dims = 3

    def __init__(self, volume: Volume) -> None:
        self._turn = axes_to(volume, DISPLAY) if volume.is_placed else None
        self.axes: tuple[str, ...] = BODY if volume.is_placed else STORED
        self._grey = turned_view(to_grey(volume.image[..., 0]), self._turn)
        self._spacing = turned_sides(volume.spacing, self._turn)
        self.lengths: tuple[int, ...] = self._grey.shape

    def picture(self, place: Place) -> Picture:
        """The slice; superior is up in coronal and sagittal ones."""
        plane = np.repeat(self._cut(self._grey, place)[..., None], 3, axis=2)
        height, width = self._size(place)
        return np.array(resized(np.ascontiguousarray(plane), width, height))

    def mask(self, mask: NDArray[Any], place: Place) -> NDArray[Any]:
        """The mask of the slice, every pixel the class of its voxel."""
        return _sampled(self._cut(self.turned(mask), place), self._size(place))

    def turned(self, mask: NDArray[Any]) -> NDArray[Any]:
        """A mask (z, y, x) or (K, z, y, x) in the orientation of the slices."""
        return turned_view(mask, self._turn, mask.ndim - 3)

    def _cut(self, array: NDArray[Any], place: Place) -> NDArray[Any]:
        plane: NDArray[Any] = array.take(place.index, axis=place.axis - 3)
        return plane if place.axis == 0 or self._turn is None else plane[..., ::-1, :]

    def _size(self, place: Place) -> tuple[int, int]:
        """Height and width at which a voxel has its proportions and the slice can be seen."""
        kept = [axis for axis in range(3) if axis != place.axis]
        sides = [self.lengths[axis] * self._spacing[axis] for axis in kept]
        longer = max(sides) / min(self._spacing[axis] for axis in kept)
        share = min(max(longer, READABLE_SIDE), LARGEST) / max(sides)
        height, width = (max(1, min(LARGEST, round(side * share))) for side in sides)
        return height, width


def plain_picture(canvas: Canvas, place: Place) -> Picture:
    """The picture of a place without anything on it, enlarged if it is small."""
    return np.array(enlarged(canvas.picture(place))[0])


def canvas_of(image: NDArray[Any] | Volume) -> Canvas:
    """The canvas of an image (H, W, C), a series (L, C) or a volume."""
    if isinstance(image, Volume):
        return Slices(image)
    return Lines(image) if image.ndim == 2 else Flat(image)


def _sampled(mask: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    rows, columns = (
        nearest_centres(new, old).numpy() for new, old in zip(size, mask.shape[-2:], strict=True)
    )
    return mask[..., rows, :][..., columns]
