"""Base class of the data sets whose semantic masks are drawn from annotated objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.annotations.outlines import NOTHING, draw
from densekit.data.annotations.packed import Objects
from densekit.data.naming import check_names
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.dataset import MaskDataset
from densekit.types import IGNORE_INDEX


class DrawnMasks(MaskDataset):
    """One class per pixel, drawn from objects; class 0 is the background.

    Objects are drawn in descending order of area, so that small ones lie on top; among equal ones
    the later one does. Crowd regions are ignored where no object covers them, and so is the box of
    an object whose outline is unusable.

    Args:
        content: The objects, with outlines.
        folder: Folder that the image paths are relative to.
        reader: Reads the image files.
        values: The stored value of each class of `content`, for masks that are written; other than
            0, which is the background.
        names: Classes to segment, in the order of their labels after the background; objects of
            others are background. The default is all of them.
        key: The data set class, for messages.

    Raises:
        ValueError: If a name is unknown or appears twice.
    """

    def __init__(
        self,
        content: Objects,
        folder: Path,
        reader: ImageReader,
        *,
        values: Sequence[int],
        names: Sequence[str] | None,
        key: str,
    ) -> None:
        # Some tools list the background among the categories.
        chosen = [name for name in content.names if name.casefold() != "background"]
        if names is not None:
            chosen = check_names(names, f"{key}.names")
            for name in chosen:
                if name not in content.names:
                    raise ValueError(unknown(f"{key}.names", name, content.names))
        value_of = dict(zip(content.names, values, strict=True))
        classes = {
            "names": ["background", *chosen],
            "ids": [0, *(value_of[name] for name in chosen)],
            "num_classes": 1 + len(chosen),
            "background": True,
            "multilabel": False,
        }
        labels = {name: label for label, name in enumerate(chosen, start=1)}
        data = content.annotations
        self.findings = content.findings
        self._annotations = data
        self._class_of = np.asarray([labels.get(name, 0) for name in content.names], dtype=np.uint8)
        super().__init__(
            [folder / data.paths[index].decode() for index in range(len(data.paths))],
            data.sizes,
            reader,
            classes,
            data.image_ids.tolist(),
        )

    def mask(self, index: int) -> NDArray[Any]:
        """(H, W) uint8 classes of an image, 255 where ignored."""
        data = self._annotations
        assert data.segments is not None
        size = self._size(index)
        mask = np.zeros(size, dtype=np.uint8)
        rows = np.arange(int(data.offsets[index]), int(data.offsets[index + 1]))
        rows = rows[self._class_of[data.labels[rows]] > 0]
        # Crowds first, then by descending area; a stable sort keeps equal ones in file order.
        for row in rows[np.lexsort((-data.area[rows], ~data.crowd[rows]))]:
            segment = data.segments[row]
            label = self._class_of[data.labels[row]]
            if segment == NOTHING:
                mask[_pixels(data.boxes[row])] = IGNORE_INDEX
            else:
                inside = draw(segment, size) == 1
                mask[inside] = IGNORE_INDEX if data.crowd[row] else label
        return mask


def _pixels(box: NDArray[Any]) -> tuple[slice, slice]:
    """Rows and columns that a box (xyxy) touches."""
    left, top = (max(0, int(np.floor(side))) for side in box[:2])
    right, bottom = (max(0, int(np.ceil(side))) for side in box[2:])
    return slice(top, bottom), slice(left, right)
