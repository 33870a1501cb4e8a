"""Measures a data set of boxes: sizes of images, sides of objects.

N images, M objects of all images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.detection.dataset import BoxDataset
from densekit.data.protocols import Dataset
from densekit.data.subset import unwrapped
from densekit.data.transforms.geometry import clip_boxes


@dataclass(frozen=True)
class BoxFingerprint:
    """Measurements of a data set of boxes, without crowds and regions that losses ignore.

    Attributes:
        names: Names of the classes.
        sizes: (N, 2) height and width of the images.
        boxes: (M, 4) boxes in the images as they are stored.
        image_of: (M,) number of each object's image, 0 to N - 1.
        labels: (M,) class of each object.
    """

    names: list[str]
    sizes: NDArray[Any]
    boxes: NDArray[Any]
    image_of: NDArray[np.int64]
    labels: NDArray[np.int64]

    def sides(self, scales: NDArray[Any]) -> NDArray[Any]:
        """(M, 2) heights and widths of the objects, each image multiplied by its scale (N,)."""
        corners: NDArray[Any] = self.boxes.astype(np.float64)
        stored = np.stack([corners[:, 3] - corners[:, 1], corners[:, 2] - corners[:, 0]], axis=1)
        resized: NDArray[Any] = stored * scales[self.image_of, None]
        return resized


def box_fingerprint(dataset: Dataset, indices: Iterable[int]) -> BoxFingerprint:
    """Measures the objects of some images.

    Args:
        dataset: A data set of boxes; of the formats that keep their annotations in memory no image
            is read.
        indices: Of the images.

    Raises:
        ValueError: The samples have no boxes, or none of them has an object.
    """
    sizes, boxes, labels = [], [], []
    for index in indices:
        size, box, label = _measured(dataset, index)
        sizes.append(size)
        boxes.append(box)
        labels.append(label)
    if not any(len(box) for box in boxes):
        raise ValueError(f"train: expected objects to plan for, got {len(boxes)} images without")
    counts = [len(box) for box in boxes]
    return BoxFingerprint(
        names=list(dataset.describe()["names"]),
        sizes=np.asarray(sizes, dtype=np.int64),
        boxes=np.concatenate(boxes),
        image_of=np.repeat(np.arange(len(boxes)), counts),
        labels=np.concatenate(labels),
    )


def _measured(
    dataset: Dataset, index: int
) -> tuple[tuple[int, ...], NDArray[Any], NDArray[np.int64]]:
    """Size of an image, and boxes (n, 4) and labels (n,) of its objects."""
    base, positions = unwrapped(dataset)
    if isinstance(base, BoxDataset):
        found, place = base.annotations, int(positions[index])
        rows = slice(*found.offsets[place : place + 2])
        size, boxes, labels = tuple(base.sizes[place]), found.boxes[rows], found.labels[rows]
        ignored = found.crowd[rows] | found.difficult[rows]
    else:
        sample = dataset[index]
        if "boxes" not in sample:
            raise ValueError(f"{sample['meta']['path']}: expected boxes, got {sorted(sample)}")
        size, boxes, labels = sample["image"].shape[:2], sample["boxes"], sample["labels"]
        ignored = sample["crowd"]
    return size, clip_boxes(boxes[~ignored], size), labels[~ignored]
