"""Base class of the data sets of boxes: packed annotations and an image reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.annotations.findings import Findings
from densekit.data.annotations.outlines import NOTHING, run_lengths
from densekit.data.annotations.packed import Annotations, Searched
from densekit.data.protocols import Dataset
from densekit.data.reading.image_files import SizedImages
from densekit.data.reading.images import ImageReader
from densekit.data.subset import unwrapped
from densekit.data.transforms.geometry import clip_boxes
from densekit.ops.run_lengths import decode
from densekit.types import IGNORE_INDEX, Meta, Sample, Truth


class BoxDataset(SizedImages):
    """Images with boxes, the base of CocoDetection and VocDetection.

    Args:
        annotations: The annotations of all images.
        images: Folder that the image paths are relative to.
        reader: Reads the image files.
        names: Class names in the order of their labels.
        ids: The format's own id of each class, for export.
        findings: Defects found while reading, by kind.
        searched: What images were searched for, where not for all classes.
    """

    def __init__(
        self,
        annotations: Annotations,
        images: Path,
        reader: ImageReader,
        *,
        names: list[str],
        ids: list[int],
        findings: Findings,
        searched: Searched | None = None,
    ) -> None:
        super().__init__(reader)
        self.annotations = annotations
        self.names = names
        self.ids = ids
        self.findings = findings
        self.searched = searched
        self._images = images

    def __len__(self) -> int:
        return len(self.annotations.image_ids)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image."""
        return self.annotations.sizes

    @property
    def has_outlines(self) -> bool:
        """Whether outlines were read and any object has one."""
        segments = self.annotations.segments
        return segments is not None and segments.num_bytes > 0

    def describe(self) -> dict[str, Any]:
        """Names, ids, number and (LVIS) frequency of classes; channels and dtype of the images."""
        return {
            "names": list(self.names),
            "ids": list(self.ids),
            "num_classes": len(self.names),
            **({"frequency": list(self.searched.frequency)} if self.searched else {}),
            **self._reader.describe(),
        }

    def class_counts(self, images: NDArray[np.int64]) -> Counter[int]:
        """Number of objects of each label in the given images."""
        data = self.annotations
        of_image = np.repeat(np.arange(len(self)), np.diff(data.offsets))
        return Counter(data.labels[np.isin(of_image, images)].tolist())

    def labels_in(self, index: int) -> NDArray[np.int64]:
        """(n,) label of every object of an image."""
        return self.annotations.labels[self._rows(index)]

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self._images / self.annotations.paths[index].decode()

    def __getitem__(self, index: int) -> Sample:
        """The image with its boxes clipped to it, and the unchanged annotation as `truth`.

        Difficult objects, like crowds, are regions that the loss ignores.

        Raises:
            ValueError: Naming the file, if the image cannot be read.
        """
        data = self.annotations
        rows = self._rows(index)
        height, width = self._size(index)
        image_id = int(data.image_ids[index])
        sample = Sample(
            image=self.read(index),
            boxes=clip_boxes(data.boxes[rows], (height, width)).astype(np.float32),
            labels=data.labels[rows].copy(),
            crowd=data.crowd[rows] | data.difficult[rows],
            index=index,
            meta=Meta(path=str(self.path(index)), image_id=image_id, original_size=(height, width)),
            truth=Truth(
                image_id=image_id,
                size=(height, width),
                boxes=data.boxes[rows].copy(),
                labels=data.labels[rows].copy(),
                area=data.area[rows].copy(),
                crowd=data.crowd[rows].copy(),
                difficult=data.difficult[rows].copy(),
            ),
        )
        if self.searched is not None:
            negative, not_exhaustive = self.searched.of_image(index)
            sample["truth"]["negative_labels"] = negative
            sample["truth"]["not_exhaustive_labels"] = not_exhaustive
        if data.segments is not None:
            segments = [data.segments[row] for row in range(rows.start, rows.stop)]
            drawn = [run_lengths(segment, (height, width)) for segment in segments]
            sample["truth"]["masks"] = drawn
            sample["instance_masks"] = decode(drawn, (height, width))
            sample["instance_masks"][[segment == NOTHING for segment in segments]] = IGNORE_INDEX
        return sample

    def _rows(self, index: int) -> slice:
        """The rows of the annotations of an image."""
        offsets = self.annotations.offsets
        return slice(int(offsets[index]), int(offsets[index + 1]))


def classes_without_objects(dataset: Dataset) -> list[str]:
    """Names of the classes without a box; empty for data sets without boxes.

    Args:
        dataset: A data set or a subset of one.
    """
    base, images = unwrapped(dataset)
    if not isinstance(base, BoxDataset):
        return []
    counts = base.class_counts(images)
    return [name for label, name in enumerate(base.names) if label not in counts]
