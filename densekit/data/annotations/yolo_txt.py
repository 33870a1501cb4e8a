"""Reads YOLO txt: one file per image, one row per object, coordinates relative to the image.

A row is `class x y w h` (the centre and the size of a box) or `class x1 y1 x2 y2 x3 y3 ...` (a
polygon); either may end with a confidence, as predictions do.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densekit._names import unknown
from densekit.data.annotations.findings import Findings
from densekit.data.annotations.outlines import NOTHING, encode
from densekit.data.annotations.packed import Objects, Rows, pack
from densekit.data.annotations.sanitise import sanitise
from densekit.data.annotations.yolo_files import YoloFiles, label_rows
from densekit.data.naming import check_names
from densekit.data.reading.images import size_if_readable
from densekit.data.reading.progress import tracked
from densekit.ops.polygons import polygon_area

FARTHEST = 2.0
"""Largest relative coordinate: a box beyond its image is clipped, one in pixels is refused."""
BOX_VALUES = 5
POLYGON_VALUES = 7
"""Fewest values of a polygon: its class and three points."""

_log = logging.getLogger("densekit.data")


def read_yolo(
    files: YoloFiles,
    root: Path,
    key: str,
    *,
    names: Sequence[str] | None = None,
    outlines: bool = False,
    strict: bool = False,
) -> Objects:
    """Reads and checks label files.

    Args:
        files: The files.
        root: Folder that the paths of the images are relative to.
        key: The data set class that reads them, for messages.
        names: Class names in the order of their labels; the default is all classes in the order of
            their numbers.
        outlines: Whether polygons are kept.
        strict: Raises at the first defective row instead of repairing and counting it.

    Raises:
        ValueError: With file and line: a row of another length, a class without a name, or a
            coordinate that is not a relative one.
    """
    every, classes = _classes(files, names, key)
    findings = Findings(files.source, strict)
    parser = _Parser(every, classes, outlines, findings)
    sizes = np.ones((len(files.images), 2), dtype=np.int64)
    for image in tracked(range(len(files.images)), "reading labels"):
        sizes[image] = size_if_readable(files.images[image])
        if (path := files.labels[image]) is not None:
            parser.parse(path, image, (int(sizes[image][0]), int(sizes[image][1])))
    rows = parser.rows
    of_row = sizes[np.asarray(rows.image, dtype=np.int64)]
    keep = sanitise(rows.boxes(), of_row, lambda row: rows.name[row], findings)
    findings.log()
    paths = [_relative(path, root) for path in files.images]
    packed = pack(rows, keep, paths, range(len(paths)), sizes, segments=outlines)
    return Objects(packed, classes, [every.index(name) for name in classes], findings)


class _Parser:
    """Turns label files into rows."""

    def __init__(
        self, every: list[str], classes: list[str], outlines: bool, findings: Findings
    ) -> None:
        self.every = every
        self.label_of = {name: label for label, name in enumerate(classes)}
        self.outlines = outlines
        self.findings = findings
        self.rows = Rows.empty()

    def parse(self, path: Path, image: int, size: tuple[int, int]) -> None:
        """Adds the rows of one file, without repeated ones."""
        seen = set[tuple[float, ...]]()
        for number, words in label_rows(path):
            where = f"{path}, line {number}"
            values = _numbers(words, where)
            if tuple(values) in seen:
                self.findings.add("row repeated, dropped", where)
                continue
            seen.add(tuple(values))
            self._add(values, where, image, size)

    def _add(self, values: list[float], where: str, image: int, size: tuple[int, int]) -> None:
        label = self._label(values[0], where)
        height, width = size
        points = _outline(values)
        scaled = [value * (height if i % 2 else width) for i, value in enumerate(points)]
        box = _around(scaled) if scaled else _box(values[1:BOX_VALUES], size)
        rows = self.rows
        rows.image.append(image)
        rows.box.append(box)
        rows.label.append(label)
        rows.area.append(polygon_area(scaled) if scaled else (box[2] - box[0]) * (box[3] - box[1]))
        rows.crowd.append(False)
        rows.difficult.append(False)
        rows.segment.append(self._segment(scaled, where, size))
        rows.name.append(where)

    def _label(self, value: float, where: str) -> int:
        if value not in range(len(self.every)):
            known = f"0 ({self.every[0]}) to {len(self.every) - 1} ({self.every[-1]})"
            raise ValueError(f"{where}: class: expected a number from {known}, got {value:g}")
        name = self.every[int(value)]
        if name not in self.label_of:
            raise ValueError(unknown(f"{where}: class", name, self.label_of))
        return self.label_of[name]

    def _segment(self, points: list[float], where: str, size: tuple[int, int]) -> bytes:
        if not self.outlines:
            return NOTHING
        if not points:
            self.findings.add("box without a polygon, its mask is ignored", where)
            return NOTHING
        return encode([points], size)[0]


def _numbers(words: Sequence[str], where: str) -> list[float]:
    """The values of a row, checked to be a class and relative coordinates."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{where}: expected numbers, got {' '.join(words):.80}") from None
    if wrong := [w for w, value in zip(words, values, strict=True) if not math.isfinite(value)]:
        raise ValueError(f"{where}: expected finite numbers, got {wrong[0]}")
    if len(values) < BOX_VALUES:
        raise ValueError(
            f"{where}: expected class, x, y, width and height, or a class and at least three"
            f" points, got {len(values)} values"
        )
    if far := [value for value in values[1:] if abs(value) > FARTHEST]:
        raise ValueError(
            f"{where}: expected coordinates relative to the image, 0 to 1, got {far[0]:g}; divide"
            " pixels by the width and height of the image"
        )
    return values


def _outline(values: Sequence[float]) -> list[float]:
    """The relative points of a polygon, without a confidence at its end; empty for a box."""
    if len(values) < POLYGON_VALUES:
        return []
    return list(values[1 : len(values) - 1 + len(values) % 2])


def _box(values: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Corners in pixels from a relative centre and size."""
    x, y, w, h = values
    height, width = size
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def _around(points: Sequence[float]) -> tuple[float, float, float, float]:
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def _classes(
    files: YoloFiles, names: Sequence[str] | None, key: str
) -> tuple[list[str], list[str]]:
    """The class names in the order of their numbers, and in the order of their labels."""
    chosen = None if names is None else check_names(names, f"{key}.names")
    every = list(files.names) or chosen or _unnamed(files)
    for name in chosen or ():
        if name not in every:
            raise ValueError(unknown(f"{key}.names: {files.source}", name, every))
    return every, chosen or every


def _unnamed(files: YoloFiles) -> list[str]:
    """Names of the classes that occur, where no file names them."""
    found = [
        float(words[0])
        for path in tracked([path for path in files.labels if path], "looking for classes")
        for _, words in label_rows(path)
        if words[0].isdecimal()
    ]
    count = 1 + int(max(found, default=0))
    _log.warning(
        "%s: no file names the classes; taken as class_0 to class_%d", files.source, count - 1
    )
    return [f"class_{number}" for number in range(count)]


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path.absolute())
