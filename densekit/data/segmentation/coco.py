"""COCO's instance annotations drawn as semantic masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.annotations.coco_json import read_coco
from densekit.data.annotations.outlines import NOTHING, draw
from densekit.data.naming import check_names
from densekit.data.reading.files import existing_folder
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.dataset import MaskDataset
from densekit.types import IGNORE_INDEX


class CocoSemantic(MaskDataset):
    """A data set in COCO's detection format, with one class per pixel; class 0 is the background.

    Objects are drawn in descending order of area, so that small ones lie on top; among equal ones
    the later one does. Crowd regions are ignored where no object covers them, and so is the box of
    an object whose outline is unusable.

    Args:
        root: Folder of the data set.
        images: Folder of the images, relative to `root`.
        annotations: The JSON file, relative to `root`.
        names: Categories to segment, in the order of their labels after the background; objects of
            others are background. The default is all, in the order of their ids.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.
        strict: Raise at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: As `CocoDetection` does.
    """

    def __init__(
        self,
        root: str | Path,
        images: str,
        annotations: str,
        *,
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
        strict: bool = False,
    ) -> None:
        folder = existing_folder(Path(root) / images, "CocoSemantic.images")
        path = Path(root) / annotations
        content = read_coco(path, folder, "CocoSemantic", outlines=True, strict=strict)
        # Some tools list the background among the categories.
        chosen = [name for name in content.names if name.casefold() != "background"]
        if names is not None:
            chosen = check_names(names, "CocoSemantic.names")
            for name in chosen:
                if name not in content.names:
                    raise ValueError(unknown("CocoSemantic.names", name, content.names))
        ids = dict(zip(content.names, content.ids, strict=True))
        classes = {
            "names": ["background", *chosen],
            "ids": [0, *(ids[name] for name in chosen)],
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
            ImageReader(channels, dtype, intensity),
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
