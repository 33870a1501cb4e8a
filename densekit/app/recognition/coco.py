"""Recognises COCO JSON: files with images, annotations and categories."""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import replace
from pathlib import Path

from densekit.app.recognition.found import OUTLINED, WHOLE, Found, node
from densekit.app.recognition.tree import Tree, by_split, likeness
from densekit.data.reading.files import same_name

_KEYS = (b'"images"', b'"annotations"', b'"categories"', b'"bbox"')
_DETECTED = b'"score"'
"""A key of detections, which are not annotations."""
_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_LOOKED_AT = 20
"""File names that are looked for in the folders of images."""
_OTHER_TASKS = ("keypoints", "captions", "stuff", "panoptic")


def recognise(tree: Tree) -> list[Found]:
    """Boxes, and masks where objects have outlines."""
    files = {file: names for file in tree.named(".json") if (names := _names(tree.root / file))}
    placed = {file: place for file, names in files.items() if (place := _folder(tree, file, names))}
    if not placed:
        return []
    main = {
        f: p for f, p in placed.items() if not any(task in f for task in _OTHER_TASKS)
    } or placed
    chosen, spare = _one_per_split(main)
    notes = [f"also COCO JSON, not used: {', '.join(sorted(spare)[:5])}"] if spare else []
    splits = {
        split: node("CocoDetection", root="{root}", images=main[file], annotations=file)
        for split, file in chosen.items()
    }
    where = ", ".join(chosen.values())
    found = Found("coco", f"COCO JSON: {where}", "boxes", tree.root, splits, tuple(notes))
    if not _has_outlines(tree.root / next(iter(chosen.values()))):
        return [found]
    masks = {split: {**n, "_target_": "densekit.data.CocoSemantic"} for split, n in splits.items()}
    boxes = replace(found, notes=(*notes, OUTLINED.format("coco_masks")), outlines=True)
    return [boxes, Found("coco_masks", found.text, "masks", tree.root, masks, tuple(notes))]


def without_images(tree: Tree) -> tuple[str, str] | None:
    """A COCO JSON whose images are missing, and the first of these; None without one."""
    files = ((file, _names(tree.root / file)) for file in tree.named(".json"))
    return next(((file, names[0]) for file, names in files if names), None)


def _one_per_split(files: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The file of each split, and the files that are left over."""
    named = by_split(files)
    if "train" in named and len(named) > len(named.keys() & {""}):
        chosen = {split: of[0] for split, of in named.items() if split}
    else:
        chosen = {WHOLE: next(iter(files))}
    return chosen, [file for file in files if file not in chosen.values()]


def _names(path: Path) -> list[str]:
    """The first image files that a COCO JSON names; empty for another file."""
    try:
        if path.stat().st_size == 0:
            return []
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if any(text.find(key) < 0 for key in _KEYS) or text.find(_DETECTED) >= 0:
                return []
            found = [
                match[1] for _, match in zip(range(_LOOKED_AT), _NAME.finditer(text), strict=False)
            ]
            return [json.loads(name) for name in found]
    except (OSError, ValueError):
        return []


def _has_outlines(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return re.search(rb'"segmentation"\s*:\s*(\[\s*\[|\{)', text) is not None


def _folder(tree: Tree, file: str, names: list[str]) -> str:
    """The folder that holds most of the images; "" if none holds any.

    Splits may have images of the same names: of equal folders it is that of the file's split.
    """
    candidates = dict.fromkeys([".", *tree.image_folders])
    for folder in list(candidates):
        parent = folder
        while parent := parent.rpartition("/")[0]:
            candidates.setdefault(parent)
    counts = {f: sum(_path(f, name) in tree.known for name in names) for f in candidates}
    best = max(counts, key=lambda folder: (counts[folder], *likeness(folder, file)))
    return (best or ".") if counts[best] else ""


def _path(folder: str, name: str) -> str:
    plain = name.removeprefix("./")
    return same_name(plain if folder in ("", ".") else f"{folder}/{plain}")
