"""Rewrites annotation files without the records that cannot be taken, and with clipped boxes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from densekit._files import replacing, write_json, write_text
from densekit.app.doctor.facts import Box, Example
from densekit.app.doctor.readers.records import number
from densekit.data.annotations.yolo_files import label_rows
from densekit.data.annotations.yolo_txt import BOX_VALUES, FARTHEST, POLYGON_VALUES
from densekit.data.detection.voc import parse_xml

CORNERS = (("xmin", 1), ("ymin", 1), ("xmax", 0), ("ymax", 0))
"""Elements of a VOC box, and what is added to a coordinate that counts from 0."""
ROUNDING = 1e-6
"""Pixels by which a clipped coordinate must differ to be a change."""


@dataclass
class Log:
    """What was done, one row per repair."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, repair: str, file: Path, detail: str) -> None:
        """Adds a row."""
        self.rows.append({"repair": repair, "file": str(file), "detail": detail})


def clipped(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box that is in its image, None if it has no area or is not finite."""
    if not all(map(math.isfinite, box)):
        return None
    height, width = size
    x1, x2 = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
    y1, y2 = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _kept(box: Box, size: tuple[int, int] | None, log: Log, file: Path, where: str) -> Box | None:
    """The clipped box, after a row of the log if it has changed."""
    new = clipped(box, size) if size is not None else box
    if new is None:
        log.add("box left out", file, where)
    elif any(abs(a - b) > ROUNDING for a, b in zip(new, box, strict=True)):
        log.add("box clipped", file, where)
    return new


def endings(path: Path) -> list[str]:
    """The path from each of its folders on: `a/b/1.jpg`, `b/1.jpg`, `1.jpg`."""
    parts = path.parts
    return ["/".join(parts[place:]) for place in range(1, len(parts))]


def rewrite_coco(file: Path, examples: Sequence[Example], dropped: set[Path], log: Log) -> None:
    """Rewrites a COCO file.

    Args:
        file: The copy of the file.
        examples: Its images.
        dropped: Images that are left out.
        log: Receives what was done.
    """
    content = json.loads(file.read_bytes())
    used = [e for e in examples if e.file.absolute() not in dropped]
    frames = {name: e.frame for e in used for name in endings(e.file)}
    images: dict[int, Mapping[str, Any]] = {}
    for record in _objects(content["images"], "image", file, log):
        name = record.get("file_name")
        is_first = type(record.get("id")) is int and record["id"] not in images
        if is_first and isinstance(name, str) and Path(name).as_posix() in frames:
            images[record["id"]] = record
    known: dict[int, Mapping[str, Any]] = {}
    for record in _objects(content["categories"], "category", file, log):
        names = [category["name"] for category in known.values()]
        usable = type(record.get("id")) is int and isinstance(record.get("name"), str)
        if usable and record["id"] not in known and record["name"] not in names:
            known[record["id"]] = record
    annotations: dict[int, Mapping[str, Any]] = {}
    for record in _objects(content["annotations"], "annotation", file, log):
        if record.get("image_id") not in images or record.get("category_id") not in known:
            log.add("annotation left out", file, f"annotation {record.get('id')}")
            continue
        frame = frames[Path(images[record["image_id"]]["file_name"]).as_posix()]
        box = _coco_box(record, frame, file, log)
        if box is not None:
            key = record.get("id")
            free = type(key) is int and key not in annotations
            new = int(key) if free and isinstance(key, int) else 1 + max(annotations, default=0)
            annotations[new] = {**record, "id": new, "bbox": box}
    lists = {"images": images, "categories": known, "annotations": annotations}
    write_json(file, {**content, **{key: list(rows.values()) for key, rows in lists.items()}})


def _objects(records: Sequence[Any], what: str, file: Path, log: Log) -> list[dict[str, Any]]:
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            log.add(f"{what} left out", file, f"number {place}")
    return [record for record in records if isinstance(record, dict)]


def _coco_box(
    record: Mapping[str, Any], frame: tuple[int, int] | None, file: Path, log: Log
) -> list[float] | None:
    """The clipped `bbox`; the stored numbers if nothing was clipped."""
    where, stored = f"annotation {record.get('id')}", record.get("bbox")
    if not isinstance(stored, list) or len(stored) != 4:
        log.add("box left out", file, where)
        return None
    x, y, width, height = map(number, stored)
    old = (x, y, x + width, y + height)
    box = _kept(old, frame, log, file, where)
    if box is None or box == old:
        return None if box is None else stored
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def rewrite_voc(file: Path, examples: Sequence[Example], dropped: set[Path], log: Log) -> None:
    """Rewrites a VOC file; arguments as `rewrite_coco`. One that is not XML is deleted."""
    (example,) = examples
    if example.file.absolute() in dropped:
        return
    try:
        tree = parse_xml(file)
    except ValueError:
        file.unlink()
        log.add("annotation file left out", file, "no XML")
        return
    for place, element in enumerate(list(tree.iter("object")), start=1):
        box = _voc_box(element)
        new = box and _kept(box, example.frame, log, file, f"object {place}")
        if not (element.findtext("name") or "").strip() or new is None:
            tree.remove(element)
            if box is None or new is not None:
                log.add("object left out", file, f"object {place}")
        elif new != box:
            for (key, shift), value in zip(CORNERS, new, strict=True):
                corner = element.find(f"bndbox/{key}")
                assert corner is not None
                corner.text = f"{value + shift:g}"
    with replacing(file) as part:
        ElementTree.ElementTree(tree).write(part, encoding="utf-8")


def _voc_box(element: ElementTree.Element) -> Box | None:
    values = [element.findtext(f"bndbox/{key}") or "" for key, _ in CORNERS]
    try:
        x1, y1, x2, y2 = (float(v) - shift for v, (_, shift) in zip(values, CORNERS, strict=True))
    except ValueError:
        return None
    return x1, y1, x2, y2


def rewrite_yolo(file: Path, examples: Sequence[Example], dropped: set[Path], log: Log) -> None:
    """Rewrites a label file; arguments as `rewrite_coco`. One that is no text becomes empty."""
    (example,) = examples
    if example.file.absolute() in dropped:
        return
    try:
        rows = label_rows(file)
    except ValueError:
        write_text(file, "")
        log.add("annotation file emptied", file, "no text")
        return
    labels = [item.where for item in example.items or ()]
    lines = []
    for place, words in rows:
        where = f"line {place}"
        new = _yolo_row(words, log, file, where) if where in labels else None
        if where not in labels:
            log.add("row left out", file, where)
        if new is not None:
            lines.append(new)
    write_text(file, "".join(f"{line}\n" for line in lines))


def _yolo_row(words: Sequence[str], log: Log, file: Path, where: str) -> str | None:
    """The row with a clipped box; polygons stay as they are."""
    if len(words) >= POLYGON_VALUES:
        return " ".join(words)
    x, y, w, h = map(float, words[1:BOX_VALUES])
    old = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    box = _kept(old, (1, 1), log, file, where) if max(map(abs, old)) <= FARTHEST else None
    if box is None or max(abs(a - b) for a, b in zip(box, old, strict=True)) <= ROUNDING:
        return None if box is None else " ".join(words)
    x1, y1, x2, y2 = box
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return " ".join([words[0], *(f"{value:.9g}" for value in values)])


def rewrite_list(file: Path, dropped: set[Path], log: Log) -> None:
    """Rewrites a list of images, one line each, without those that are left out."""
    names = {name for path in dropped for name in endings(path)}
    names |= {name for path in dropped for name in endings(path.with_suffix(""))}
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        cells = line.replace(",", " ").replace(";", " ").split()
        if any(Path(cell).as_posix() in names for cell in cells):
            log.add("line left out", file, line.strip())
        else:
            kept.append(line)
    write_text(file, "".join(kept))
