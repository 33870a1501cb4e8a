"""Reads COCO JSON: boxes, polygons, run lengths, crowds, ids with gaps, images without objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit._reading import read_json
from densekit.data.annotations.findings import Findings
from densekit.data.annotations.outlines import NOTHING, encode
from densekit.data.annotations.packed import Objects, Rows, pack
from densekit.data.annotations.sanitise import sanitise
from densekit.data.annotations.searched import read_searched
from densekit.data.naming import check_names
from densekit.data.reading.files import existing_images
from densekit.data.reading.images import size_if_readable

NUMBER = (int, float)  # ids too: some exporters write 3 as 3.0
EXACT = 2**53
"""The largest integer up to which every integer is exact as a float."""


Segment = Callable[[Mapping[str, Any], tuple[int, int]], tuple[bytes, str]]
"""Packs what is kept of an annotation, given its image's size; returns it and its defect or ""."""


def outline(record: Mapping[str, Any], size: tuple[int, int]) -> tuple[bytes, str]:
    """Packs the outline of an annotation; see `densekit.data.annotations.outlines.encode`."""
    return encode(record.get("segmentation"), size)


def read_coco(
    path: Path,
    folder: Path,
    key: str,
    *,
    names: Sequence[str] | None = None,
    outlines: bool = False,
    strict: bool = False,
) -> Objects:
    """Reads and checks a COCO JSON file.

    Args:
        path: The file.
        folder: Folder of its images.
        key: The data set class that reads it, for messages.
        names: Class names in the order of their labels; the default is all categories of the file
            in the order of their ids.
        outlines: Whether the outlines of objects are kept.
        strict: Raises at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: If the file is not COCO JSON, an image is missing, a category is unknown or a
            box is not finite; always with the file and the annotation's id.
    """
    segment = outline if outlines else None
    content = read_lists(path)
    return parse_coco(content, path, folder, key, names=names, strict=strict, segment=segment)


def parse_coco(
    content: Mapping[str, Any],
    path: Path,
    folder: Path,
    key: str,
    *,
    names: Sequence[str] | None = None,
    strict: bool = False,
    segment: Segment | None = None,
) -> Objects:
    """Checks the content of a COCO file; see `read_coco`.

    Args:
        content: Its lists `images`, `annotations` and `categories`.
        path: The file, for messages.
        folder: See `read_coco`.
        key: See `read_coco`.
        names: See `read_coco`.
        strict: See `read_coco`.
        segment: What is kept as an object's outline; None for nothing.
    """
    findings = Findings(str(path), strict)
    ids_by_name = category_ids(content["categories"], path)
    classes = _classes(ids_by_name, names, path, f"{key}.names")
    records = content["images"]
    files = [_file_name(record, path) for record in records]
    files = existing_images(folder, files, str(path))
    image_ids = _unique_ids(records, path)
    sizes = _sizes(records, folder, path)
    parser = _Parser(path, image_ids, sizes, ids_by_name, classes, segment, findings)
    rows = parser.parse(content["annotations"])
    keep = sanitise(
        rows.boxes(),
        sizes[np.asarray(rows.image, dtype=np.int64)],
        lambda row: f"{files[rows.image[row]]}, {rows.name[row]}",
        findings,
    )
    findings.log(_corner_hint(findings, len(rows.image)))
    packed = pack(rows, keep, files, image_ids, sizes, segments=segment is not None)
    ids = [ids_by_name[name] for name in classes]
    searched = read_searched(records, content["categories"], ids, path)
    return Objects(packed, classes, ids, findings, searched)


LARGEST = 1 << 31
"""Pixels of a side."""


class _Parser:
    """Turns the annotations of one file into rows."""

    def __init__(
        self,
        path: Path,
        image_ids: list[int],
        sizes: NDArray[Any],
        ids_by_name: dict[str, int],
        classes: list[str],
        segment: Segment | None,
        findings: Findings,
    ) -> None:
        self.path = path
        self.position = {image_id: i for i, image_id in enumerate(image_ids)}
        self.sizes = sizes
        self.name_of = {category: name for name, category in ids_by_name.items()}
        self.label_of = {name: label for label, name in enumerate(classes)}
        self.segment = segment
        self.findings = findings

    def parse(self, annotations: list[dict[str, Any]]) -> Rows:
        """One row per annotation; those of images that the file does not list are dropped."""
        rows = Rows.empty()
        for record in annotations:
            name = f"annotation {record.get('id', '(without id)')}"
            image = self.position.get(_whole(record, "image_id", self.path, name))
            if image is None:
                where = f"{name}: image_id {record['image_id']}"
                self.findings.add("annotation of an image not in the file, dropped", where)
                continue
            x, y, width, height = self._bbox(record, name)
            rows.image.append(image)
            rows.name.append(name)
            rows.box.append((x, y, x + width, y + height))
            rows.label.append(self._label(record, name))
            rows.area.append(self._area(record, width * height, name))
            rows.crowd.append(self._crowd(record, name))
            rows.difficult.append(False)
            rows.segment.append(self._segment(record, image, name))
        return rows

    def _bbox(self, record: dict[str, Any], name: str) -> list[float]:
        bbox = _field(record, "bbox", self.path, name)
        try:
            x, y, width, height = (float(value) for value in bbox)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.path}: {name}: bbox: expected [x, y, width, height], got {bbox!r}"
            ) from None
        return [x, y, width, height]

    def _area(self, record: dict[str, Any], of_box: float, name: str) -> float:
        """The annotated area; that of the box if it is missing, null or invalid."""
        if record.get("area") is None:
            return of_box
        area = _typed(record, "area", NUMBER, self.path, name)
        if math.isfinite(area) and area >= 0:
            return float(area)
        self.findings.add("area negative or not finite, taken from the box", f"{name}: {area}")
        return of_box

    def _crowd(self, record: dict[str, Any], name: str) -> bool:
        crowd = record.get("iscrowd")
        if crowd is None:
            return False
        if isinstance(crowd, str) or crowd not in (0, 1):
            raise ValueError(f"{self.path}: {name}: iscrowd: expected 0 or 1, got {crowd!r}")
        return bool(crowd)

    def _label(self, record: dict[str, Any], name: str) -> int:
        category = _whole(record, "category_id", self.path, name)
        if category not in self.name_of:
            known = ", ".join(f"{i} ({n})" for i, n in list(self.name_of.items())[:20])
            raise ValueError(
                f"{self.path}: {name}: category_id: expected one of the file's categories {known},"
                f" got {category!r}"
            )
        class_name = self.name_of[category]
        if class_name not in self.label_of:
            raise ValueError(unknown(f"{self.path}: {name}: class", class_name, self.label_of))
        return self.label_of[class_name]

    def _segment(self, record: dict[str, Any], image: int, name: str) -> bytes:
        if self.segment is None:
            return NOTHING
        height, width = (int(side) for side in self.sizes[image])
        try:
            segment, defect = self.segment(record, (height, width))
        except ValueError as error:
            raise ValueError(f"{self.path}: {name}: segmentation: {error}") from error
        if defect:
            self.findings.add("outline dropped, box kept", f"{name}: {defect}")
        return segment


def read_lists(path: Path) -> dict[str, Any]:
    """The file's content, checked to hold its three lists of objects."""
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            given = list(content) if isinstance(content, dict) else type(content).__name__
            raise ValueError(
                f"{path}: expected the lists images, annotations and categories of a COCO file, got"
                f" no {key!r} in {given}"
            )
        for number, record in enumerate(content[key]):
            if not isinstance(record, dict):
                raise ValueError(
                    f"{path}: {key}[{number}]: expected an object, got {record!r:.100}"
                )
    return dict(content)


def _file_name(record: dict[str, Any], path: Path) -> str:
    """Name of the image's file; LVIS has none, but an address that ends in folder and name."""
    if "file_name" not in record and isinstance(record.get("coco_url"), str):
        return "/".join(record["coco_url"].split("/")[-2:])
    return str(_typed(record, "file_name", (str,), path, "images"))


def _field(record: dict[str, Any], key: str, path: Path, name: str) -> Any:
    if key not in record:
        raise ValueError(f"{path}: {name}: expected the key {key!r}, got {str(record)[:120]}")
    return record[key]


def _typed(record: dict[str, Any], key: str, kinds: tuple[type, ...], path: Path, name: str) -> Any:
    """A required field of one of the given types."""
    value = record.get(key)
    if type(value) not in kinds:  # isinstance would accept a bool as an int
        value = _field(record, key, path, name)
        accepted = {int: "a whole number", float: "a number", str: "a string"}[kinds[-1]]
        raise ValueError(f"{path}: {name}: {key}: expected {accepted}, got {value!r:.100}")
    return value


def _whole(record: dict[str, Any], key: str, path: Path, name: str) -> int:
    """An id; a float counts if it is exactly a whole number."""
    value = _typed(record, key, NUMBER, path, name)
    if isinstance(value, float) and (not value.is_integer() or abs(value) > EXACT):
        raise ValueError(f"{path}: {name}: {key}: expected a whole number, got {value!r}")
    return int(value)


def category_ids(categories: list[dict[str, Any]], path: Path) -> dict[str, int]:
    """Class name to category id, in the order of the ids."""
    pairs = sorted(
        (_typed(c, "id", (int,), path, "categories"), _field(c, "name", path, "categories"))
        for c in categories
    )
    if len({i for i, _ in pairs}) < len(pairs):
        raise ValueError(f"{path}: categories: expected every id once, got {[i for i, _ in pairs]}")
    check_names([name for _, name in pairs], f"{path}: categories")
    return {name: category for category, name in pairs}


def _classes(
    ids_by_name: dict[str, int], names: Sequence[str] | None, path: Path, key: str
) -> list[str]:
    """The class names in the order of their labels: as given, else as in the file."""
    if names is None:
        return list(ids_by_name)
    for name in check_names(names, key):
        if name not in ids_by_name:
            raise ValueError(unknown(f"{key}: {path}", name, ids_by_name))
    return list(names)


def _unique_ids(records: list[dict[str, Any]], path: Path) -> list[int]:
    ids: list[int] = [_typed(record, "id", (int,), path, "images") for record in records]
    if wide := [i for i in ids if not -(1 << 63) <= i < 1 << 63]:
        raise ValueError(f"{path}: images: expected 64-bit ids, got {wide[0]}")
    if len(set(ids)) < len(ids):
        seen: set[int] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(f"{path}: images: expected every id once, got {twice} twice")
    return ids


def _sizes(records: list[dict[str, Any]], folder: Path, path: Path) -> NDArray[Any]:
    """(N, 2) annotated height and width, read from an image's header where they are missing."""
    sizes = [
        tuple(_side(record, key, path) for key in ("height", "width"))
        if record.get("height") and record.get("width")
        else size_if_readable(folder / record["file_name"])
        for record in records
    ]
    return np.asarray(sizes, dtype=np.int64).reshape(-1, 2)


def _side(record: dict[str, Any], key: str, path: Path) -> int:
    name = f"image {record['id']}"
    side = _typed(record, key, NUMBER, path, name)
    if not math.isfinite(side) or side != int(side) or not 1 <= side < LARGEST:
        raise ValueError(f"{path}: {name}: {key}: expected a whole number of pixels, got {side!r}")
    return int(side)


def _corner_hint(findings: Findings, total: int) -> str:
    clipped = findings.counts.get("box clipped to its image", 0)
    if clipped * 2 <= total:
        return ""
    return "Most boxes exceed their images; bbox is [x, y, width, height], are these corners?"
