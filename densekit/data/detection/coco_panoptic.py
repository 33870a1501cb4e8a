"""COCO's panoptic format as a data set of boxes, instance masks and a mask of stuff.

N objects, H and W the size of an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit._names import readable
from densekit.data.annotations.coco_panoptic import read_coco_panoptic
from densekit.data.detection.dataset import BoxDataset
from densekit.data.protocols import Origin
from densekit.data.reading.files import existing_folder
from densekit.data.reading.images import ImageReader
from densekit.ops.run_lengths import encode
from densekit.types import IGNORE_INDEX, Sample


class CocoPanoptic(BoxDataset):
    """A data set in COCO's panoptic format: a PNG of segment ids per image, and a JSON file.

    Things become boxes with masks, crowds too. In the semantic mask, 0 is every thing and then come
    the classes of stuff by ascending id, as Panoptic FPN trains them; pixels of no segment are
    ignored.

    Args:
        root: Folder of the data set.
        images: Folder of the images, relative to `root`.
        annotations: The JSON file, relative to `root`.
        maps: Folder of the PNG files, relative to `root`; by default the JSON file's name without
            its suffix, as COCO has it.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.
        strict: Raise at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: Naming the file and the image or segment, for a file that is not COCO's panoptic
            JSON, a missing file, or a wrong id.
    """

    def __init__(
        self,
        root: str | Path,
        images: str,
        annotations: str,
        *,
        maps: str | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        strict: bool = False,
    ) -> None:
        key, file = "CocoPanoptic", Path(root) / annotations
        folder = existing_folder(Path(root) / images, f"{key}.images")
        place = file.with_suffix("") if maps is None else Path(root) / maps
        self._map_folder = existing_folder(place, f"{key}.maps")
        self._content = read_coco_panoptic(file, folder, self._map_folder, key, strict=strict)
        things = self._content.things
        super().__init__(
            things.annotations,
            folder,
            ImageReader(channels, dtype),
            names=things.names,
            ids=things.ids,
            findings=things.findings,
        )

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of the things; `targets` describes the mask of stuff."""
        mask = {
            "names": ["things", *self._content.stuff_names],
            "ids": [0, *self._content.stuff_ids],
            "num_classes": 1 + len(self._content.stuff_names),
            "background": True,
            "multilabel": False,
        }
        return super().describe() | {"targets": {"boxes": {}, "mask": mask}}

    def map_path(self, index: int) -> Path:
        """The PNG file of an image."""
        return self._map_folder / self._content.maps[index].decode()

    def origin(self, index: int) -> Origin:
        """The files of an image and how they are read."""
        files, how = super().origin(index)
        return [*files, self.map_path(index)], how

    def __getitem__(self, index: int) -> Sample:
        """The image with its boxes, their masks and the mask of stuff; both are ground truth.

        Raises:
            ValueError: Naming the file, if one cannot be read or a segment is not listed.
        """
        sample = super().__getitem__(index)
        numbers = self._numbers(index)
        ids = self._content.thing_ids[self._rows(index)]
        planes = (numbers == ids[:, None, None]).astype(np.uint8)  # (N, H, W)
        sample["instance_masks"] = planes
        sample["truth"]["masks"] = encode(planes) if len(planes) else []
        sample["mask"] = sample["truth"]["mask"] = self._stuff(index, numbers)
        return sample

    def _numbers(self, index: int) -> NDArray[np.int64]:
        """(H, W) id of the segment of each pixel, 0 for none."""
        path, size = self.map_path(index), self._size(index)
        try:
            with Image.open(path) as file:
                stored = np.asarray(file.convert("RGB") if file.mode == "P" else file)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(
                f"{readable(path)}: expected a PNG file of ids, got: {error}"
            ) from error
        if stored.shape != (*size, 3) or stored.dtype != np.uint8:
            raise ValueError(
                f"{readable(path)}: expected 8-bit RGB of {size[0]} x {size[1]} pixels, got"
                f" {stored.dtype} {stored.shape}"
            )
        numbers: NDArray[np.int64] = stored.astype(np.int64) @ np.asarray([1, 256, 65536])
        return numbers

    def _stuff(self, index: int, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(H, W) 0 for things, 1 + class of stuff, 255 where there is no segment."""
        ids = np.frombuffer(self._content.segment_ids[index], dtype=np.int64)
        labels = np.frombuffer(self._content.stuff_labels[index], dtype=np.int64)
        there, places = np.unique(numbers, return_inverse=True)
        lost = np.setxor1d(there[there > 0], ids)
        if len(lost):
            raise ValueError(
                f"{readable(self.map_path(index))}: expected the segments of image"
                f" {int(self.annotations.image_ids[index])} in the JSON file, got a difference in"
                f" {lost[:5].tolist()}"
            )
        value_of = np.full(len(there), IGNORE_INDEX, dtype=np.uint8)
        value_of[there > 0] = 1 + labels
        found: NDArray[np.uint8] = value_of[places].reshape(numbers.shape)
        return found
