"""COCO JSON, record by record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Box, Defect, Example, Item
from densekit.app.doctor.readers.records import Records, number
from densekit.data.annotations.outlines import encode
from densekit.data.reading.files import existing_folder
from densekit.ops.polygons import polygon_fault, polygons

LISTS = ("images", "annotations", "categories")
Record = Mapping[str, Any]


class CocoRecords(Records):
    """Images and objects of a COCO JSON file.

    Args:
        root: Folder of the data set.
        images: Folder of the images, relative to `root`.
        annotations: The JSON file, relative to `root`.
        names: Class names, if they are given in the configuration.
        channels: Declared channels of the images.
        dtype: Declared type of the images.
        others: Arguments of the data set class that the doctor has no use for.

    Raises:
        ValueError: If the file is not JSON, or has not the lists of a COCO file.
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
        **others: Any,
    ) -> None:
        folder = existing_folder(Path(root) / images, "images")
        file = _File(Path(root) / annotations)
        categories = file.categories()
        examples = file.images(folder)
        items = file.items(examples, categories)
        counts = Counter(categories.values())
        super().__init__(
            [replace(e, items=tuple(items[i]), index=n) for n, (i, e) in enumerate(examples)],
            file.defects,
            names or list(dict.fromkeys(categories.values())),
            sorted(category for category, name in categories.items() if counts[name]),
            stored="coco",
            kind="boxes",
            channels=channels,
            dtype=dtype,
        )


class _File:
    """A COCO file whose records are read one by one; what is wrong with them is recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = _content(path)
        self.defects: list[Defect] = []

    def add(self, check: str, message: str) -> None:
        self.defects.append(Defect(check, self.path, message))

    def records(self, key: str) -> Iterator[tuple[int, Record]]:
        for place, record in enumerate(self.content[key]):
            if isinstance(record, dict):
                yield place, record
            else:
                self.add(
                    "malformed-record", f"{key}[{place}]: expected an object, got {record!r:.80}"
                )

    def categories(self) -> dict[int, str]:
        """Category id to class name."""
        found: dict[int, str] = {}
        for place, record in self.records("categories"):
            category, name = record.get("id"), record.get("name")
            if not isinstance(category, int) or not isinstance(name, str):
                self.add(
                    "malformed-record",
                    f"categories[{place}]: expected id and name, got {record!r:.80}",
                )
            elif category in found or name in found.values():
                self.add(
                    "duplicate-category", f"categories[{place}]: {category} {name!r} is there twice"
                )
            else:
                found[category] = name
        return dict(sorted(found.items()))

    def images(self, folder: Path) -> list[tuple[int, Example]]:
        """Image id and image of every usable record."""
        found: list[tuple[int, Example]] = []
        seen = set[int]()
        for place, record in self.records("images"):
            image, name = record.get("id"), record.get("file_name")
            if not isinstance(image, int) or not isinstance(name, str):
                self.add(
                    "malformed-record",
                    f"images[{place}]: expected id and file_name, got {record!r:.80}",
                )
                continue
            if image in seen:
                self.add(
                    "duplicate-image-id", f"images[{place}]: id {image} of {name} is there twice"
                )
                continue
            seen.add(image)
            sides = number(record.get("height")), number(record.get("width"))
            size = (int(sides[0]), int(sides[1])) if min(sides) >= 1 else None
            found.append((image, Example(folder / name, size=size, annotation=self.path)))
        return found

    def items(
        self, examples: Sequence[tuple[int, Example]], categories: Mapping[int, str]
    ) -> dict[int, list[Item]]:
        """The objects of each image id."""
        found: dict[int, list[Item]] = {image: [] for image, _ in examples}
        sizes = {image: example.size for image, example in examples}
        ids = Counter(r["id"] for _, r in self.records("annotations") if _is_id(r.get("id")))
        for annotation, count in ids.items():
            if count > 1:
                self.add("duplicate-annotation-id", f"annotation {annotation}: {count} times")
        for place, record in self.records("annotations"):
            where = f"annotation {record.get('id', f'number {place}')}"
            image, box = record.get("image_id"), _box(record.get("bbox"))
            if not _is_id(image) or box is None:
                self.add(
                    "malformed-record", f"{where}: expected image_id and bbox, got {record!r:.120}"
                )
            elif image not in found:
                self.add(
                    "annotation-without-image", f"{where}: image_id {image} is not in the file"
                )
            elif (label := categories.get(_id(record.get("category_id")))) is None:
                known = f"{min(categories, default=0)} to {max(categories, default=0)}"
                self.add(
                    "unknown-category",
                    f"{where}: category_id {record.get('category_id')!r}, known are {known}",
                )
            else:
                found[image].append(_item(record, where, label, box, sizes[image]))
        return found


def _content(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file, got {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    for key in LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path}: expected the lists {', '.join(LISTS)}, got no {key!r}")
    return dict(content)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _id(value: Any) -> int:
    """A category id; -1, which no category has, for anything else."""
    return (
        int(value)
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        else -1
    )


def _box(bbox: Any) -> Box | None:
    """Corners of a COCO box; NaN coordinates stay."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    x, y, width, height = map(number, bbox)
    return x, y, x + width, y + height


def _item(record: Record, where: str, label: str, box: Box, size: tuple[int, int] | None) -> Item:
    area = record.get("area")
    outline, fault = _outline(record.get("segmentation"), size)
    return Item(
        box=box,
        label=label,
        where=where,
        crowd=record.get("iscrowd") == 1,
        area=None if area is None else number(area),
        outline=outline,
        fault=fault,
    )


def _outline(segmentation: Any, size: tuple[int, int] | None) -> tuple[Box | None, str]:
    """The box around the polygons, and what is wrong with the outline."""
    if segmentation in (None, []):
        return None, ""
    if isinstance(segmentation, dict):
        return None, "" if size is None else encode(segmentation, size)[1]
    if not isinstance(segmentation, list):
        return None, f"segmentation is a {type(segmentation).__name__}"
    every = polygons(segmentation)
    faults = [polygon_fault(polygon) for polygon in every]
    good = [polygon for polygon, fault in zip(every, faults, strict=True) if not fault]
    x = [float(value) for polygon in good for value in polygon[::2]]
    y = [float(value) for polygon in good for value in polygon[1::2]]
    around = (min(x), min(y), max(x), max(y)) if x else None
    return around, next(filter(None, faults), "")
