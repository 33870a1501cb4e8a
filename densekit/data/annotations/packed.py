"""Object annotations of a whole data set in a few flat arrays.

Loader workers share arrays, whereas a list of dicts is copied page by page into each of them,
because reading a Python object writes its reference count. N images, M boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.annotations.findings import Findings


class PackedBytes:
    """A sequence of byte strings in one array.

    Args:
        items: The strings.
    """

    def __init__(self, items: Iterable[bytes]) -> None:
        parts = list(items)
        self._data = np.frombuffer(b"".join(parts), dtype=np.uint8)
        self._ends = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def num_bytes(self) -> int:
        """Length of all strings together."""
        return len(self._data)

    def __getitem__(self, index: int) -> bytes:
        return self._data[self._ends[index] : self._ends[index + 1]].tobytes()


@dataclass(frozen=True)
class Annotations:
    """The annotations of a data set.

    Attributes:
        paths: N image paths, UTF-8.
        image_ids: (N,) int64.
        sizes: (N, 2) int64 annotated height and width.
        offsets: (N + 1,) int64; the boxes of image i are the rows offsets[i]:offsets[i + 1].
        boxes: (M, 4) float64 xyxy as annotated (not clipped), absolute pixels, 0 = left edge.
        labels: (M,) int64 in 0..K-1.
        area: (M,) float64 annotated area in square pixels.
        crowd: (M,) bool.
        difficult: (M,) bool.
        segments: M encoded outlines (see `outlines.encode`), or None.
    """

    paths: PackedBytes
    image_ids: NDArray[Any]
    sizes: NDArray[Any]
    offsets: NDArray[Any]
    boxes: NDArray[Any]
    labels: NDArray[Any]
    area: NDArray[Any]
    crowd: NDArray[Any]
    difficult: NDArray[Any]
    segments: PackedBytes | None = None


@dataclass(frozen=True)
class Searched:
    """Of a data set in which not every image was searched for every class.

    Attributes:
        negative: N times the int64 labels that an image was found not to show.
        not_exhaustive: Likewise those of which it may show more than is annotated.
        frequency: K of "r", "c" and "f": rare, common, frequent.
    """

    negative: PackedBytes
    not_exhaustive: PackedBytes
    frequency: list[str]

    def of_image(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels that are negative, and that are not exhaustive."""
        negative, not_exhaustive = (
            np.frombuffer(packed[index], dtype=np.int64).copy()
            for packed in (self.negative, self.not_exhaustive)
        )
        return negative, not_exhaustive


@dataclass(frozen=True)
class Objects:
    """The content of annotation files.

    Attributes:
        annotations: All images and objects, without defective objects.
        names: Class names in the order of their labels.
        ids: The files' own id of each class.
        findings: Defects in the files.
        searched: What images were searched for, where not for all classes.
    """

    annotations: Annotations
    names: list[str]
    ids: list[int]
    findings: Findings
    searched: Searched | None = None


@dataclass
class Rows:
    """Annotations while they are read: one list per column, one entry per object."""

    image: list[int]
    box: list[Sequence[float]]
    label: list[int]
    area: list[float]
    crowd: list[bool]
    difficult: list[bool]
    segment: list[bytes]
    name: list[str]
    """What an error message calls the object: "annotation 17", "object 3"."""

    @classmethod
    def empty(cls) -> Rows:
        """Lists without entries."""
        return cls([], [], [], [], [], [], [], [])

    def boxes(self) -> NDArray[Any]:
        """(M, 4) float64 boxes."""
        return np.asarray(self.box, dtype=np.float64).reshape(-1, 4)


def pack(
    rows: Rows,
    keep: NDArray[Any],
    paths: Sequence[str],
    image_ids: Sequence[int],
    sizes: NDArray[Any],
    *,
    segments: bool,
) -> Annotations:
    """Sorts rows by image (stable) and packs them.

    Args:
        rows: The objects of all images in any order.
        keep: (M,) bool, which rows to keep.
        paths: N image paths.
        image_ids: N image ids.
        sizes: (N, 2) height and width.
        segments: Whether to pack the outlines too.
    """
    image = np.asarray(rows.image, dtype=np.int64)
    order = np.flatnonzero(keep)
    order = order[np.argsort(image[order], kind="stable")]
    counts = np.bincount(image[order], minlength=len(paths))
    return Annotations(
        paths=PackedBytes(path.encode() for path in paths),
        image_ids=np.asarray(image_ids, dtype=np.int64),
        sizes=np.asarray(sizes, dtype=np.int64).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=rows.boxes()[order],
        labels=np.asarray(rows.label, dtype=np.int64)[order],
        area=np.asarray(rows.area, dtype=np.float64)[order],
        crowd=np.asarray(rows.crowd, dtype=bool)[order],
        difficult=np.asarray(rows.difficult, dtype=bool)[order],
        segments=PackedBytes(rows.segment[i] for i in order) if segments else None,
    )
