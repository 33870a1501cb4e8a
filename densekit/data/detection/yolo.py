"""YOLO txt: one label file per image, with boxes or polygons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.data.annotations.yolo_files import find_yolo_files
from densekit.data.annotations.yolo_txt import read_yolo
from densekit.data.detection.dataset import BoxDataset
from densekit.data.reading.images import ImageReader


class YoloDetection(BoxDataset):
    """Images with one label file each, as YOLO reads them; the box of a polygon encloses it.

    An image without a label file has no objects. Coordinates are relative to the image as it is
    displayed, after its EXIF orientation. Image ids are indices.

    Args:
        root: Folder of the data set.
        split: A split of `config`: train, val or test; None takes all images of the folder
            `images`, to be divided by `Split` and `SplitRule`.
        config: The file with class names and splits, relative to `root`. Without a split it may be
            missing; `classes.txt` or `obj.names` then names the classes.
        images: Folder of the images if no split is given, relative to `root`.
        labels: Folder of the label files, relative to `root`. By default that of
            `a/images/b/1.jpg` is `a/labels/b/1.txt`, or the file beside the image.
        names: Class names in the order of their labels; the default is all classes, in the order of
            their numbers.
        instance_masks: Whether samples have instance masks; that of a box without a polygon is
            ignored.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.
        strict: Raise at the first defective row instead of repairing and counting it.

    Raises:
        ValueError: Naming the file and the line, for a missing file, a row of another length, a
            class without a name, or a coordinate that is not finite or not relative.
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
        instance_masks: bool = False,
        channels: int = 3,
        dtype: str = "uint8",
        strict: bool = False,
    ) -> None:
        folder, key = Path(root), "YoloDetection"
        files = find_yolo_files(folder, split, key, config=config, images=images, labels=labels)
        content = read_yolo(files, folder, key, names=names, outlines=instance_masks, strict=strict)
        super().__init__(
            content.annotations,
            folder,
            ImageReader(channels, dtype),
            names=content.names,
            ids=content.ids,
            findings=content.findings,
        )
