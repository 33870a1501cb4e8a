"""The polygons of YOLO txt drawn as semantic masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.annotations.yolo_files import find_yolo_files
from densekit.data.annotations.yolo_txt import read_yolo
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.drawn import DrawnMasks


class YoloSemantic(DrawnMasks):
    """A data set of YOLO polygons with one class per pixel; class 0 is the background.

    The order in which objects are drawn is that of `DrawnMasks`; a box without a polygon is
    ignored. In masks that are written, the value of a class is its number plus one.

    Args:
        root: Folder of the data set.
        split: A split of `config`: train, val or test; None takes all images of the folder
            `images`, to be divided by `Split` and `SplitRule`.
        config: The file with class names and splits, relative to `root`. Without a split it may be
            missing; `classes.txt` or `obj.names` then names the classes.
        images: Folder of the images if no split is given, relative to `root`.
        labels: Folder of the label files, relative to `root`. By default that of
            `a/images/b/1.jpg` is `a/labels/b/1.txt`, or the file beside the image.
        names: Classes to segment, in the order of their labels after the background; objects of
            others are background. The default is all, in the order of their numbers.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.
        strict: Raise at the first defective row instead of repairing and counting it.

    Raises:
        ValueError: As `YoloDetection` does.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        config: str = "data.yaml",
        images: str = "images",
        labels: str | None = None,
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
        strict: bool = False,
    ) -> None:
        folder, key = Path(root), "YoloSemantic"
        files = find_yolo_files(folder, split, key, config=config, images=images, labels=labels)
        content = read_yolo(files, folder, key, outlines=True, strict=strict)
        values = [number + 1 for number in content.ids]
        reader = ImageReader(channels, dtype, intensity)
        super().__init__(content, folder, reader, values=values, names=names, key=key)
