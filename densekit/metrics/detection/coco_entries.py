"""COCO's JSON files, read entry by entry: what is wrong is named by file and place.

Entries come out as plain rows with what the protocol looks at and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotcoco import mask as rle_api

from densekit._names import nearest
from densekit._reading import read_json
from densekit.metrics.detection.lvis_protocol import FREQUENCIES, Federation
from densekit.ops.polygons import far_coordinate, polygon_fault, polygons

Annotation = dict[str, Any]

FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")
"""What LVIS says of an image."""

EXACT = 2.0**53
"""Numbers written as fractions are whole up to here; above, their last digits are lost."""


@dataclass(frozen=True)
class GroundTruth:
    """A file of COCO annotations.

    Attributes:
        images: By id, as they are in the file.
        categories: Likewise.
        names: Category names by id.
        annotations: Rows in the file's order.
    """

    images: dict[int, Annotation]
    categories: dict[int, Annotation]
    names: dict[int, str]
    annotations: list[Annotation]


def read_ground_truth(path: Path, iou_type: str) -> GroundTruth:
    """Reads COCO annotations.

    Args:
        path: JSON file.
        iou_type: `bbox` or `segm`, whichever every annotation must have.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(
            f"{path}: expected COCO annotations, an object with images, categories and"
            f" annotations, got {_kind(data)}"
        )
    for key in ("images", "categories", "annotations"):
        _require(data, key, list, f"{path}")
    images = _by_id(data["images"], f"{path}: images")
    categories = _by_id(data["categories"], f"{path}: categories")
    names = {
        key: _require(category, "name", str, f"{path}: category {key}")
        for key, category in categories.items()
    }
    truth = []
    for n, entry in enumerate(data["annotations"]):
        where = f"{path}: annotations[{n}]"
        row = _row(entry, where)
        _known(row["image_id"], images, f"{where}: image_id", "an image of the file")
        _known(row["category_id"], names, f"{where}: category_id", "a category of the file")
        shape = _shape(entry, where, iou_type, images[row["image_id"]])
        row |= shape | {"iscrowd": int(entry.get("iscrowd") or 0)}
        if entry.get("area") is not None:
            row["area"] = _number(entry["area"], f"{where}: area")
        truth.append(row)
    return GroundTruth(images, categories, names, truth)


def read_detections(
    path: Path, iou_type: str, images: dict[int, Annotation], annotations: Path
) -> list[Annotation]:
    """Reads COCO results.

    Args:
        path: JSON file.
        iou_type: `bbox` or `segm`, whichever every detection must have.
        images: The images of the annotations, by id.
        annotations: Their file, named where an image is not among them.

    Returns:
        Detections in the file's order.
    """
    data = read_json(path)
    if not isinstance(data, list):
        raise ValueError(
            f"{path}: expected COCO results, a list of detections, got {_kind(data)} "
            "(annotations and results exchanged?)"
        )
    rows = [_row(entry, f"{path}: entry {n}") for n, entry in enumerate(data)]
    _refuse_unknown_images({row["image_id"] for row in rows} - set(images), path, annotations)
    for n, (row, entry) in enumerate(zip(rows, data, strict=True)):
        where = f"{path}: entry {n}"
        row["score"] = _number(_require(entry, "score", (int, float), where), f"{where}: score")
        row |= _shape(entry, where, iou_type, images[row["image_id"]])
    return rows


def read_federation(truth: GroundTruth, label: Mapping[int, int], path: Path) -> Federation:
    """What LVIS annotations say of images and categories, by position and label.

    Args:
        truth: The annotations.
        label: Label of each category id.
        path: Their file, for errors.
    """
    frequency = []
    for category in label:
        where = f"{path}: category {category}"
        found = _require(truth.categories[category], "frequency", str, where)
        if found not in FREQUENCIES:
            accepted = ", ".join(FREQUENCIES)
            raise ValueError(f"{where}: frequency: expected one of {accepted}, got {found!r}")
        frequency.append(found)
    lists = [
        [_labels(truth.images[image], key, label, f"{path}: image {image}") for key in FEDERATED]
        for image in sorted(truth.images)
    ]
    return Federation([one for one, _ in lists], [one for _, one in lists], frequency)


def _labels(image: Annotation, key: str, label: Mapping[int, int], where: str) -> list[int]:
    """Labels of the categories that an entry lists under a key."""
    ids = _require(image, key, list, where)
    for category in ids:
        if type(category) is not int or category not in label:
            raise ValueError(f"{where}: {key}: expected categories of the file, got {category!r}")
    return [label[category] for category in ids]


def _row(entry: Any, where: str) -> Annotation:
    return {
        "image_id": _id(entry, "image_id", where),
        "category_id": _id(entry, "category_id", where),
    }


def _by_id(entries: list[Any], where: str) -> dict[int, Annotation]:
    """Entries by their ids.

    Raises:
        ValueError: An id appears twice.
    """
    found: dict[int, Annotation] = {}
    for n, entry in enumerate(entries):
        key = _id(entry, "id", f"{where}[{n}]")
        if key in found:
            raise ValueError(f"{where}[{n}]: expected ids that differ, got {key} a second time")
        found[key] = entry
    return found


def _id(entry: Any, key: str, where: str) -> int:
    """A whole number; 3.0 is what some exporters make of 3."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, float):
        return int(_require(entry, key, int, where))
    if not value.is_integer() or abs(value) > EXACT:
        raise ValueError(f"{where}: {key}: expected a whole number, got {value!r}")
    return int(value)


def _refuse_unknown_images(unknown: set[int], path: Path, annotations: Path) -> None:
    if unknown:
        some = ", ".join(map(str, sorted(unknown)[:5])) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(
            f"{path}: expected image ids of {annotations}, got {len(unknown)} others: {some} "
            "(results of another split?)"
        )


def _shape(entry: Annotation, where: str, iou_type: str, image: Annotation) -> Annotation:
    """Area with box or mask, whichever is measured; a missing box comes from the mask."""
    if iou_type == "bbox" and entry.get("bbox"):
        box = _box(entry["bbox"], f"{where}: bbox")
        return {"bbox": box, "area": box[2] * box[3]}
    if iou_type == "bbox" and not entry.get("segmentation"):
        _require(entry, "bbox", list, where)
    rle = _rle(_require(entry, "segmentation", (list, dict), where), where, image)
    if iou_type == "bbox":
        return {"bbox": rle_api.toBbox(rle).tolist(), "area": float(rle_api.area(rle))}
    return {"segmentation": rle, "area": float(rle_api.area(rle))}


def _box(value: Any, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"{where}: expected [x, y, width, height], got {value!r}")
    box = [_number(side, where) for side in value]
    if min(box[2:]) < 0:
        raise ValueError(f"{where}: expected a width and height of at least 0, got {value!r}")
    return box


def _rle(value: Any, where: str, image: Annotation) -> Annotation:
    """Any of COCO's three ways to write a mask, as compressed RLE."""
    height, width = (
        _require(image, key, int, f"image {image['id']}") for key in ("height", "width")
    )
    if isinstance(value, dict):
        size = value.get("size")
        if size != [height, width]:
            raise ValueError(
                f"{where}: expected a segmentation of size [{height}, {width}], got {size}"
            )
    elif not value:
        raise ValueError(f"{where}: expected polygons or run lengths, got an empty segmentation")
    else:
        value = _polygons(value, where, (height, width))
    try:
        if isinstance(value, list):
            rle = rle_api.merge(rle_api.frPyObjects(value, height, width))
        elif isinstance(value.get("counts"), list):
            rle = rle_api.frPyObjects(value, height, width)
        else:
            rle = value
        rle_api.area(rle)
    except Exception as error:  # the library raises whatever it meets
        raise ValueError(f"{where}: segmentation: expected a mask, got: {error}") from None
    return dict(rle)


def _polygons(value: list[Any], where: str, size: tuple[int, int]) -> list[list[float]]:
    found: list[list[float]] = polygons(value)
    for polygon in found:
        if fault := polygon_fault(polygon) or far_coordinate(polygon, size):
            raise ValueError(f"{where}: segmentation: {fault}")
    return found


def _require(entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """The value of a key that must be there, of its type."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {_kind(entry)}")
    if key not in entry:
        there = ", ".join(map(str, entry)) or "an empty object"
        raise ValueError(f"{where}: expected a key {key!r}, got {there}{nearest(key, entry)}")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        accepted = " or ".join(k.__name__ for k in kinds)
        raise ValueError(f"{where}: {key}: expected {accepted}, got {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    return float(value)


def _known(value: int, accepted: Iterable[int], where: str, what: str) -> None:
    if value not in accepted:
        raise ValueError(f"{where}: expected {what}, got {value}")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else repr(value)
