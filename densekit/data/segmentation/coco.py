"""COCO's instance annotations drawn as semantic masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.annotations.coco_json import read_coco
from densekit.data.reading.files import existing_folder
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.drawn import DrawnMasks


class CocoSemantic(DrawnMasks):
    """A data set in COCO's detection format, with one class per pixel; class 0 is the background.

    The order in which objects are drawn, and what is ignored, are those of `DrawnMasks`.

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
        key = "CocoSemantic"
        folder = existing_folder(Path(root) / images, f"{key}.images")
        content = read_coco(Path(root) / annotations, folder, key, outlines=True, strict=strict)
        reader = ImageReader(channels, dtype, intensity)
        super().__init__(content, folder, reader, values=content.ids, names=names, key=key)
