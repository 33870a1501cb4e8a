"""COCO JSON as a data set of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.data.annotations.coco_json import read_coco
from densekit.data.detection.dataset import BoxDataset
from densekit.data.reading.files import existing_folder
from densekit.data.reading.images import ImageReader


class CocoDetection(BoxDataset):
    """A data set in COCO's detection format, or in that of LVIS.

    LVIS's `neg_category_ids`, `not_exhaustive_category_ids` and `frequency` are kept for `LvisMap`;
    the files of its images are the folder and name at the end of `coco_url`.

    Args:
        root: Folder of the data set.
        images: Folder of the images, relative to `root`.
        annotations: The JSON file, relative to `root`.
        names: Class names in the order of their labels; the default is all categories of the file
            in the order of their ids.
        instance_masks: Whether samples have instance masks.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.
        strict: Raise at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: Naming the file and the annotation's id, for a file that is not COCO JSON, a
            missing image, an unknown category, or a box that is not finite.
    """

    def __init__(
        self,
        root: str | Path,
        images: str,
        annotations: str,
        *,
        names: Sequence[str] | None = None,
        instance_masks: bool = False,
        channels: int = 3,
        dtype: str = "uint8",
        strict: bool = False,
    ) -> None:
        folder = existing_folder(Path(root) / images, "CocoDetection.images")
        content = read_coco(
            Path(root) / annotations,
            folder,
            "CocoDetection",
            names=names,
            outlines=instance_masks,
            strict=strict,
        )
        super().__init__(
            content.annotations,
            folder,
            ImageReader(channels, dtype),
            names=content.names,
            ids=content.ids,
            findings=content.findings,
            searched=content.searched,
        )
