"""Tries every format on a folder, and chooses one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from densekit._names import counted, unknown
from densekit.app.errors import UsageError
from densekit.app.recognition import (
    coco,
    folders,
    masks,
    series,
    tables,
    voc,
    volumes,
    yolo,
)
from densekit.app.recognition.found import WHOLE, Found
from densekit.app.recognition.tree import Tree, list_folder
from densekit.app.terminal import quoted
from densekit.data.reading.files import folders_in

_log = logging.getLogger(__name__)

RECOGNISERS: Sequence[Callable[[Tree], list[Found]]] = (
    *(coco.recognise, voc.recognise, yolo.recognise, voc.recognise_masks, masks.recognise),
    *(volumes.recognise, tables.recognise, series.recognise, folders.recognise),
)
FORMATS = {
    "coco": "COCO JSON, boxes",
    "coco_masks": "COCO JSON, outlines as masks",
    "voc": "VOC XML, boxes",
    "voc_masks": "VOC masks (SegmentationClass)",
    "yolo": "YOLO txt, boxes",
    "yolo_masks": "YOLO txt, polygons as masks",
    "masks": "images and masks in two folders, or told apart by the end of their names",
    "mask_list": "a list of pairs of image and mask",
    "object_masks": "one mask file per object",
    "volumes": "volumes with dataset.json (MSD, nnU-Net), or images and masks",
    "table": "a table (CSV, TSV) of images and classes",
    "sequences": "a table of DNA sequences and classes",
    "series": "series of the UCR and UEA archives (.ts)",
    "identities": "one folder per person",
    "classes": "one folder per class",
}
"""What is looked for, by the value of `format=`."""
DERIVED = {"coco_masks": "coco", "yolo_masks": "yolo"}
"""Formats that read the files of another one, which is taken unless they are asked for."""
MANY = 20_000
"""Files from which on people are asked for patience."""
_INSIDE = 20
"""Most folders that are looked into if the given one is of no format."""


def recognise(source: Path, wanted: str | None = None) -> Found:
    """The data set in a folder, or that of one file which describes it.

    Args:
        source: The folder or file.
        wanted: The format; None for the only one there is.

    Raises:
        UsageError: If there is none or there are several; the message says what was found.
    """
    tree = list_folder(source) if source.is_dir() else _around(source)
    if len(tree.files) > MANY:
        _log.info("%s: looking at %d files, which takes a while", source, len(tree.files))
    found = _all(tree)
    if not found and not tree.only:
        found = _inside(tree.root)
    if wanted is not None:
        found = [candidate for candidate in found if candidate.format == wanted] or _refuse(
            source, found, wanted
        )
    elif any(candidate.certain for candidate in found):
        found = [candidate for candidate in found if candidate.certain]
    candidates = [candidate for candidate in found if candidate.format not in DERIVED] or found
    if not candidates:
        raise UsageError(nothing(source, tree))
    if len(candidates) > 1 and not _obvious(candidates, wanted):
        raise UsageError(several(source, candidates))
    chosen = candidates[0]
    alone = set(chosen.splits) == {"train"}
    return replace(chosen, splits={WHOLE: chosen.splits["train"]}) if alone else chosen


def _obvious(candidates: Sequence[Found], wanted: str | None) -> bool:
    """Whether the first one is meant: people before classes, which are the same folders."""
    one_root = len({candidate.root for candidate in candidates}) == 1
    return one_root and (wanted is not None or candidates[0].format == "identities")


def _around(file: Path) -> Tree:
    """The folder of a file, or the one above if there is no image: `annotations/train.json`."""
    tree = list_folder(file.parent, file.name)
    if tree.images or file.suffix.lower() != ".json" or file.parent.resolve() == Path.home():
        return tree
    above = list_folder(file.parent.resolve().parent, f"{file.parent.resolve().name}/{file.name}")
    return above if above.images else tree


def _all(tree: Tree) -> list[Found]:
    return [found for look in RECOGNISERS for found in look(tree)]


def _inside(root: Path) -> list[Found]:
    """What is in the folders of a folder, of those that hold a data set."""
    names = folders_in(root)[:_INSIDE]
    return [found for name in names for found in _all(list_folder(root / name))]


def _refuse(source: Path, found: Sequence[Found], wanted: str) -> list[Found]:
    if not found:
        return []
    raise UsageError(unknown(f"format: {source}", wanted, dict.fromkeys(f.format for f in found)))


def several(source: Path, found: Sequence[Found]) -> str:
    """The message for a folder that can be read in several ways."""
    if len({candidate.root for candidate in found}) > 1:
        lines = [f"  densekit init {quoted(c.root)}   # {c.format}: {c.text}" for c in found]
        return f"source: expected one data set, got {len(found)} in {source}:\n" + "\n".join(lines)
    lines = [f"  densekit init {quoted(source)} format={c.format}   # {c.text}" for c in found]
    return f"source: expected one format, got {len(found)} in {source}; choose:\n" + "\n".join(
        lines
    )


def nothing(source: Path, tree: Tree) -> str:
    """The message for a folder of no format: what was looked for, and what is there."""
    if tree.only:
        expected = "COCO JSON, data.yaml, dataset.json or a table with the images that it names"
        return f"{source}: expected {expected}, got none of these; {_hint(tree)}".rstrip("; ")
    kinds = Counter(Path(file).suffix.lower() or "(no suffix)" for file in tree.files)
    there = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(6)) or "no files"
    entries = ", ".join(sorted(entry.name for entry in tree.root.iterdir())[:10])
    looked = "\n".join(f"  {about}" for about in FORMATS.values())
    files = f"{counted(len(tree.files), 'file')} ({there})"
    what = "; ".join(filter(None, [files, entries, _hint(tree)]))
    return f"{source}: expected one of these, got {what}\n{looked}"


def _hint(tree: Tree) -> str:
    """What comes near to a format."""
    if lost := coco.without_images(tree):
        return f"{lost[0]} is COCO JSON, but its images, e.g. {lost[1]}, are not here"
    if xml := voc.examples(tree):
        return f"{xml[0]} is VOC XML, but there is no folder with images of these names"
    if why := tables.unreadable(tree):
        return why
    return "images alone say nothing about what is in them" if tree.images else ""
