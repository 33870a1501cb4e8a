"""Faces brought to one position by five landmarks.

H, W the size of an image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from densekit.data.identification.dataset import LANDMARKS, POINTS
from densekit.data.reading.tables import check_filled, numbers, read_table
from densekit.types import Sample

SIDE = 112
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""(5, 2) x, y of eyes, nose and corners of the mouth in 112 x 112 pixels, as ArcFace has them."""


class AlignFace:
    """Warps the image so that its landmarks fall on ArcFace's template, as well as they can.

    The landmarks are the sample's own (`extra["landmarks"]`, from an `IdentityTable` with columns
    `x1` to `y5`), else those of a table. They are used up: what follows cannot move them wrongly.

    Args:
        landmarks: CSV with the columns `image` and `x1, y1, ..., x5, y5`, in pixels: eyes, nose,
            corners of the mouth, the ones on the left of the picture first.
        root: Folder that its column `image` is relative to; the table's own by default.
        size: Height and width of the result; the template is scaled to the height and centred.

    Raises:
        ValueError: The table has no such columns, or an image is not in it.
    """

    def __init__(
        self,
        landmarks: str | Path | None = None,
        root: str | Path | None = None,
        size: Sequence[int] = (SIDE, SIDE),
    ) -> None:
        self.size = (int(size[0]), int(size[1]))
        self._table = Path(landmarks) if landmarks is not None else None
        self._places: dict[str, int] = {}
        if self._table is not None:
            folder = Path(root) if root is not None else self._table.parent
            rows = read_table(self._table, "AlignFace.landmarks", ["image", *POINTS])
            check_filled(rows, ["image"])
            self._points = numbers(rows, POINTS).reshape(-1, 5, 2)
            files = [os.path.abspath(folder / row["image"]) for _, row in rows]  # noqa: PTH100
            self._places = {file: place for place, file in enumerate(files)}

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The aligned sample; nothing is random."""
        extra = dict(sample.get("extra", {}))
        points = extra.pop(LANDMARKS, None)
        out = sample.copy()
        out["image"] = align_face(
            sample["image"], self._of(sample) if points is None else points, self.size
        )
        if extra:
            out["extra"] = extra
        else:
            out.pop("extra", None)
        return out

    def _of(self, sample: Sample) -> NDArray[np.float64]:
        path = sample["meta"]["path"]
        place = self._places.get(os.path.abspath(path))  # noqa: PTH100
        if place is None:
            where = f"not in {self._table}" if self._table else "and no table of them is given"
            raise ValueError(f"AlignFace: {path} has no landmarks, {where}")
        points: NDArray[np.float64] = self._points[place]
        return points


def align_face(
    image: NDArray[Any], landmarks: NDArray[Any], size: Sequence[int] = (SIDE, SIDE)
) -> NDArray[Any]:
    """One face, warped by the similarity that brings its landmarks to the template.

    Args:
        image: (H, W, C).
        landmarks: (5, 2) x, y in pixels, 0 = centre of the first pixel, as the template counts.
        size: Height and width of the result.

    Returns:
        (*size, C) of the image's type, interpolated linearly, 0 beyond the image.
    """
    height, width = size
    scale = height / SIDE
    target = TEMPLATE * scale + [(width - SIDE * scale) / 2, 0.0]
    matrix = similarity(np.asarray(landmarks, np.float64), target)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return warped[:, :, None] if warped.ndim == 2 else warped


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) matrix of rotation, one scale and shift, that is nearest in squared distance.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point
    patterns", equations 40 to 42; a mirror image is never taken.

    Args:
        source: (P, 2) points.
        target: (P, 2) where they should lie.

    Raises:
        ValueError: All points of the source are one.
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    variance = (centred**2).sum()
    if not variance > 0:
        raise ValueError("landmarks: the points are all one")
    u, d, vt = np.linalg.svd((target - mean_target).T @ centred)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u * sign @ vt
    scale = (d * sign).sum() / variance
    shift = mean_target - scale * rotation @ mean_source
    matrix: NDArray[np.float64] = np.column_stack([scale * rotation, shift])
    return matrix
