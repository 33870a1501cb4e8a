"""YOLO txt, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Box, Defect, Example, Item
from densekit.app.doctor.readers.records import Records, parsed
from densekit.data.annotations.yolo_files import find_yolo_files, label_rows
from densekit.data.annotations.yolo_txt import BOX_VALUES, POLYGON_VALUES
from densekit.data.reading.files import same_name
from densekit.data.reading.images import size_if_readable


class YoloRecords(Records):
    """Images with one label file each.

    Args:
        root: Folder of the data set.
        split: A split of `config`, or None for all images of the folder `images`.
        config: The file with class names and splits, relative to `root`.
        images: Folder of the images if no split is given, relative to `root`.
        labels: Folder of the label files, relative to `root`.
        names: Class names, if they are given in the configuration.
        channels: Declared channels of the images.
        dtype: Declared type of the images.
        others: Arguments of the data set class that the doctor has no use for.

    Raises:
        ValueError: If a file or folder is missing, or no image has a label file.
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
        **others: Any,
    ) -> None:
        files = find_yolo_files(
            Path(root), split, "YoloDetection", config=config, images=images, labels=labels
        )
        classes = list(files.names) or list(names or ())
        defects = _spare(files.labels, files.images)
        examples = [
            _example(index, image, path, classes, defects)
            for index, (image, path) in enumerate(zip(files.images, files.labels, strict=True))
        ]
        found = {item.label for example in examples for item in example.items or ()}
        super().__init__(
            examples,
            defects,
            classes or sorted(found),
            stored="yolo",
            kind="boxes",
            channels=channels,
            dtype=dtype,
        )


def _spare(labels: Sequence[Path | None], images: Sequence[Path]) -> list[Defect]:
    """Label files beside those of the images that belong to no image."""
    own = {label for label in labels if label is not None}
    stems = {same_name(image.stem) for image in images}
    return [
        Defect("annotation-without-image", path, f"no image {path.stem}.*")
        for folder in sorted({label.parent for label in own})
        for path in sorted(folder.glob("*.txt"))
        if path not in own
        and same_name(path.stem) not in stems
        and path.stem not in ("classes", "obj", "train", "val", "test")
    ]


def _example(
    index: int, image: Path, path: Path | None, classes: Sequence[str], defects: list[Defect]
) -> Example:
    size = size_if_readable(image)
    if path is None:
        return Example(image, index)
    rows = parsed(path, label_rows, defects)
    if rows is None:
        return Example(image, index, annotation=path)
    items = []
    for line, words in rows:
        item = _item(words, f"line {line}", size, classes)
        if isinstance(item, Item):
            items.append(item)
        else:
            defects.append(Defect(item[0], path, f"line {line}: {item[1]}"))
    return Example(image, index, annotation=path, items=tuple(items))


def _item(
    words: Sequence[str], where: str, size: tuple[int, int], classes: Sequence[str]
) -> Item | tuple[str, str]:
    """The object, or the check that reports its row and what is wrong with it."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return "malformed-record", f"expected numbers, got {' '.join(words):.80}"
    if len(values) < BOX_VALUES:
        return "malformed-record", f"expected class, x, y, width, height, got {len(values)} values"
    if values[0] not in range(len(classes) or 10_000):
        return "unknown-category", f"class {values[0]:g}, known are 0 to {len(classes) - 1}"
    label = classes[int(values[0])] if classes else f"class_{int(values[0])}"
    if len(values) < POLYGON_VALUES:
        return Item(_box(values[1:5], size), label, where)
    around = _around(values[1 : len(values) - 1 + len(values) % 2], size)
    return Item(around, label, where, outline=around)


def _box(values: Sequence[float], size: tuple[int, int]) -> Box:
    (x, y, w, h), (height, width) = values, size
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def _around(points: Sequence[float], size: tuple[int, int]) -> Box:
    x, y, (height, width) = points[::2], points[1::2], size
    return min(x) * width, min(y) * height, max(x) * width, max(y) * height
