"""Reads COCO's panoptic JSON: one PNG of segment ids per image, and the classes of the segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.annotations.coco_json import category_ids, parse_coco, read_lists
from densekit.data.annotations.packed import Objects, PackedBytes
from densekit.data.reading.files import existing_images

LARGEST_ID = (1 << 24) - 1
"""Of a segment: three bytes of a pixel."""


@dataclass(frozen=True)
class PanopticContent:
    """The content of a file.

    Attributes:
        things: The objects, as of a detection file.
        thing_ids: (M,) id of each object's segment in the PNG of its image.
        stuff_names: Names of the classes of stuff.
        stuff_ids: The file's own id of each.
        maps: N paths of PNG files, UTF-8, relative to their folder.
        segment_ids: N times the int64 ids of all segments of an image, ascending.
        stuff_labels: N times the int64 class of stuff of each of them, -1 for things.
    """

    things: Objects
    thing_ids: NDArray[np.int64]
    stuff_names: list[str]
    stuff_ids: list[int]
    maps: PackedBytes
    segment_ids: PackedBytes
    stuff_labels: PackedBytes


def read_coco_panoptic(
    path: Path, folder: Path, maps: Path, key: str, *, strict: bool = False
) -> PanopticContent:
    """Reads and checks a panoptic JSON file.

    Args:
        path: The file.
        folder: Folder of its images.
        maps: Folder of its PNG files.
        key: The data set class that reads it, for messages.
        strict: Raises at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: If the file is not COCO's panoptic JSON, or a file, a category or a segment of
            it is missing or wrong; names the image or the segment.
    """
    content = read_lists(path)
    things, stuff = _kinds(content["categories"], path)
    of_image = _annotations(content, path)
    records = [
        {**segment, "image_id": image}
        for image, annotation in of_image.items()
        for segment in annotation["segments_info"]
    ]
    boxed = [record for record in records if record.get("category_id") not in list(stuff)]
    detection = {**content, "categories": things, "annotations": boxed}
    objects = parse_coco(detection, path, folder, key, strict=strict, segment=_segment_id)
    packed = objects.annotations
    assert packed.segments is not None
    of_things = [packed.segments[row] for row in range(len(packed.segments))]
    order = sorted(stuff)
    ids, labels = _segments(of_image, packed.image_ids, {one: n for n, one in enumerate(order)})
    names = [str(of_image[int(image)]["file_name"]) for image in packed.image_ids]
    return PanopticContent(
        things=dataclasses.replace(objects, annotations=dataclasses.replace(packed, segments=None)),
        thing_ids=np.asarray([int.from_bytes(one, "little") for one in of_things], np.int64),
        stuff_names=[stuff[one] for one in order],
        stuff_ids=order,
        maps=PackedBytes(name.encode() for name in existing_images(maps, names, str(path))),
        segment_ids=ids,
        stuff_labels=labels,
    )


def _kinds(
    categories: list[dict[str, Any]], path: Path
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The categories of things, and id to name of those of stuff."""
    of_name = category_ids(categories, path)
    for category in categories:
        if category.get("isthing") not in (0, 1):
            raise ValueError(
                f"{path}: category {category['id']}: isthing: expected 0 or 1, got"
                f" {category.get('isthing')!r}; is it a file of boxes, for CocoDetection?"
            )
    things = [category for category in categories if category["isthing"]]
    known = [category["id"] for category in things]
    return things, {number: name for name, number in of_name.items() if number not in known}


def _annotations(content: Mapping[str, Any], path: Path) -> dict[int, dict[str, Any]]:
    """Image id to its annotation, checked to be complete."""
    found: dict[int, dict[str, Any]] = {}
    for annotation in content["annotations"]:
        where = f"{path}: annotation of image {annotation.get('image_id')}"
        for key, kind in (("image_id", int), ("file_name", str), ("segments_info", list)):
            if not isinstance(annotation.get(key), kind):
                raise ValueError(
                    f"{where}: {key}: expected {_WORDS[kind]}, got {annotation.get(key)!r:.80}"
                )
        if annotation["image_id"] in found:
            raise ValueError(f"{where}: expected one, got two")
        _check_ids(annotation["segments_info"], where)
        found[annotation["image_id"]] = annotation
    missing = [one.get("id") for one in content["images"] if one.get("id") not in found]
    if missing:
        raise ValueError(f"{path}: image {missing[0]}: expected an annotation, got none")
    return found


_WORDS = {int: "a whole number", str: "a string", list: "a list"}


def _check_ids(segments: list[Any], where: str) -> None:
    seen = set()
    for segment in segments:
        number = segment.get("id") if isinstance(segment, dict) else segment
        if type(number) is not int or not 1 <= number <= LARGEST_ID or number in seen:
            raise ValueError(
                f"{where}: expected segments with ids from 1 to {LARGEST_ID}, each once, got"
                f" {number!r:.80}"
            )
        seen.add(number)


def _segment_id(record: Mapping[str, Any], size: tuple[int, int]) -> tuple[bytes, str]:
    return int(record["id"]).to_bytes(4, "little"), ""


def _segments(
    of_image: Mapping[int, dict[str, Any]], images: NDArray[np.int64], stuff: Mapping[int, int]
) -> tuple[PackedBytes, PackedBytes]:
    """Ids of the segments of each image, and their classes of stuff."""
    ids, labels = [], []
    for image in images.tolist():
        segments = sorted(of_image[image]["segments_info"], key=lambda segment: segment["id"])
        ids.append(np.asarray([one["id"] for one in segments], np.int64).tobytes())
        classes = [stuff.get(one["category_id"], -1) for one in segments]
        labels.append(np.asarray(classes, np.int64).tobytes())
    return PackedBytes(ids), PackedBytes(labels)
