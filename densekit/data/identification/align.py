"""Alignment of faces by five landmarks.

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
"""(5, 2) x, y of eyes, nose and mouth corners in ArcFace's template of 112 x 112 pixels."""


class AlignFace:
    """Warps the image by the similarity that fits its landmarks to ArcFace's template.

    The landmarks are the sample's own (`extra["landmarks"]`, from an `IdentityTable` with columns
    `x1` to `y5`), else those of a table. They are removed from the sample, so that later transforms
    cannot leave them behind.

    Args:
        landmarks: CSV with the columns `image` and `x1, y1, ..., x5, y5`, in pixels: eyes, nose,
            mouth corners, those on the left of the image first.
        root: Folder that its column `image` is relative to; the table's own by default.
        size: Height and width of the result; the template is scaled to the height and centred.

    Raises:
        ValueError: If the table has no such columns, or an image is not in it.
    """

    def __init__(
        self,
        landmarks: str | Path | None = None,
        root: str | Path | None = None,
        size: Sequence[int] = (SIDE, SIDE),
    ) -> None:
        self.size = (int(size[0]), int(size[1]))
        self._table = Path(landmarks) if landmarks is not None else None
        self._rows: dict[str, int] = {}
        if self._table is not None:
            folder = Path(root) if root is not None else self._table.parent
            rows = read_table(self._table, "AlignFace.landmarks", ["image", *POINTS])
            check_filled(rows, ["image"])
            self._points = numbers(rows, POINTS).reshape(-1, 5, 2)
            files = [os.path.abspath(folder / row["image"]) for _, row in rows]  # noqa: PTH100
            self._rows = {file: row for row, file in enumerate(files)}

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
        row = self._rows.get(os.path.abspath(path))  # noqa: PTH100
        if row is None:
            where = f"none in {self._table}" if self._table else "no table of landmarks"
            raise ValueError(f"AlignFace: expected landmarks of {path}, got {where}")
        points: NDArray[np.float64] = self._points[row]
        return points


def align_face(
    image: NDArray[Any], landmarks: NDArray[Any], size: Sequence[int] = (SIDE, SIDE)
) -> NDArray[Any]:
    """Warps one face by the similarity that brings its landmarks to the template.

    Args:
        image: (H, W, C).
        landmarks: (5, 2) x, y in pixels, 0 = centre of the first pixel, as in the template.
        size: Height and width of the result.

    Returns:
        (*size, C) of the image's dtype, interpolated linearly, 0 outside the image.
    """
    height, width = size
    scale = height / SIDE
    target = TEMPLATE * scale + [(width - SIDE * scale) / 2, 0.0]
    matrix = similarity(np.asarray(landmarks, np.float64), target)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return warped[:, :, None] if warped.ndim == 2 else warped


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) matrix of the rotation, uniform scale and shift with the least squared distance.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point
    patterns", equations 40 to 42; reflections are excluded.

    Args:
        source: (P, 2) points.
        target: (P, 2) points that they are mapped to.

    Raises:
        ValueError: If all points of the source coincide.
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred = source - mean_source
    variance = (centred**2).sum()
    if not variance > 0:
        raise ValueError(f"landmarks: expected different points, got all at {source[0].tolist()}")
    u, d, vt = np.linalg.svd((target - mean_target).T @ centred)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u * sign @ vt
    scale = (d * sign).sum() / variance
    shift = mean_target - scale * rotation @ mean_source
    matrix: NDArray[np.float64] = np.column_stack([scale * rotation, shift])
    return matrix
