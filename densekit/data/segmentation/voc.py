"""Pascal VOC segmentation: palette PNGs of 20 classes with a void border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.data.reading.files import (
    check_stems,
    existing_folder,
    existing_images,
    images_by_stem,
    listed_stems,
    only_image,
)
from densekit.data.reading.images import ImageReader
from densekit.data.segmentation.class_table import ClassTable, find_table
from densekit.data.segmentation.classes import declared_table, find_code
from densekit.data.segmentation.dataset import PairedMasks

_KEY = "VocSegmentation"

VOC_NAMES = ["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"]
VOC_NAMES += ["chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"]
VOC_NAMES += ["sheep", "sofa", "train", "tvmonitor"]


class VocSegmentation(PairedMasks):
    """A data set in VOC's layout: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation`.

    Classes come from `names` or `colours`, else from a class file in `root` (CVAT exports
    `labelmap.txt`), else they are VOC's own: 21 with the background, 255 (void) ignored.

    Args:
        root: Folder of the data set (`VOCdevkit/VOC2012`).
        split: Name of a file in `ImageSets/Segmentation`.
        masks: Folder of the masks, e.g. `SegmentationClassAug`.
        names: Class names in the order of their labels, or class names to stored values.
        colours: Class names to `[red, green, blue]`, for colour masks.
        ignore: Stored values (or colours) that are void, besides 255.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.

    Raises:
        ValueError: Naming the file, for a missing file, different sizes, or classes that do not fit
            the values.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        masks: str = "SegmentationClass",
        names: Sequence[str] | Mapping[str, int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        ignore: Sequence[Any] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
    ) -> None:
        folder = existing_folder(Path(root), f"{_KEY}.root")
        images = existing_folder(folder / "JPEGImages", f"{_KEY}.root")
        mask_folder = existing_folder(folder / masks, f"{_KEY}.masks")
        by_stem = images_by_stem(images)
        splits = folder / "ImageSets" / "Segmentation"
        stems = listed_stems(splits, split, f"{_KEY}.split", by_stem)
        source = f"split {split!r}"
        check_stems(stems, by_stem, images, source)
        image_files = [only_image(by_stem[stem], images) for stem in stems]
        mask_names = [f"{stem}.png" for stem in stems]
        mask_names = existing_images(mask_folder, mask_names, source, "masks")
        files = [[mask_folder / name] for name in mask_names]
        declared = declared_table(names, colours, _KEY)
        if declared is None and find_table([folder]) is None:
            declared = ClassTable(VOC_NAMES)
        super().__init__(
            image_files,
            files,
            find_code(files, declared, ignore, [folder], _KEY),
            ImageReader(channels, dtype),
        )
