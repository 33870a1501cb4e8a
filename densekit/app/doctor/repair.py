"""Writes a repaired copy of a data set; the source is only read.

What is repaired: images that cannot be read are left out, and training images that are also in val
or test; boxes are clipped to their images and left out if nothing remains; records that cannot be
taken are left out; EXIF orientations are applied; volumes see `volume_repair`. No pixel and no
label is invented.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from densekit._files import replacing, write_json
from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.rewriting import Log, rewrite_coco, rewrite_list, rewrite_voc, rewrite_yolo
from densekit.app.doctor.volume_repair import repair_volumes
from densekit.app.errors import UsageError
from densekit.build import walk
from densekit.data.reading.orientation import SWAPPING, TAG, UPRIGHT

KINDS = ("boxes", "mask", "category", "identity", "volume")
LIST = "doctor_repairs.json"
"""File in the copy that lists what was done."""
QUALITY = 95
"""JPEG quality of images that are turned, which cannot be done without encoding them again."""
PATHS = ("root", "images", "masks")
"""Arguments of data sets that name folders."""


@dataclass
class Roots:
    """The folders of a data set and their copies.

    Attributes:
        copies: Folder to its copy.
    """

    copies: dict[Path, Path] = field(default_factory=dict)

    def of(self, file: Path) -> Path:
        """The copy of a file."""
        path = file.absolute()
        for source, copy in self.copies.items():
            if path.is_relative_to(source):
                return copy / path.relative_to(source)
        raise UsageError(f"fix: expected files below the folders of the data set, got {file}")


def repair(study: Study, node: Mapping[str, Any], data: Path, target: Path) -> Counter[str]:
    """Copies the folders of a data set and repairs the copy.

    Args:
        study: The examined data set.
        node: Its resolved configuration, which names the folders.
        data: The folder of all data sets (`paths.data`); the copy has the same layout below
            `target`, so that `paths.data=TARGET` reads it.
        target: A new or empty folder.

    Returns:
        Number of repairs by kind.

    Raises:
        UsageError: The folder is not empty or lies within the data, or the kind of data cannot be
            repaired.
    """
    _check(study)
    roots = _copy(_folders(node), data.absolute(), target.expanduser().absolute())
    log = Log()
    bad = {e.file.absolute() for part, e in study.each() if _is_bad(part, e)}
    leaked = _leaked(study)
    for part in study.parts.values():
        dropped = bad | (leaked if part.name == "train" else set())
        _rewrite(part, dropped, node.get(part.name) or {}, roots, log)
    _remove(study, bad, leaked, roots, log)
    _turn(study, bad | leaked, roots, log)
    repair_volumes(study, roots.of, log)
    write_json(target / LIST, log.rows)
    return Counter(row["repair"] for row in log.rows)


def check_target(target: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
        UsageError: It is not new or empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"fix: expected a new or empty folder, got {target}")


def _check(study: Study) -> None:
    for part in study.parts.values():
        if part.kind not in KINDS and part.examples:
            kind = part.kind or "data sets of other kinds"
            raise UsageError(f"fix: expected {', '.join(KINDS)}, got {kind} in {part.name}")


def _folders(node: Mapping[str, Any]) -> list[Path]:
    """The outermost folders that the data sets read."""
    named = {
        Path(value).absolute()
        for _, part in walk(node, "data")
        if isinstance(part, Mapping)
        for key in PATHS
        if isinstance(value := part.get(key), str) and Path(value).is_dir() and _is_root(part, key)
    }
    return [folder for folder in sorted(named) if not named & set(folder.parents)]


def _is_root(part: Mapping[str, Any], key: str) -> bool:
    """Whether a value names a folder by itself; beside `root`, others are relative to it."""
    return key == "root" or "root" not in part


def _copy(folders: Sequence[Path], data: Path, target: Path) -> Roots:
    check_target(target)
    for folder in folders:
        if target.is_relative_to(folder):
            raise UsageError(f"fix: expected a folder outside of the data, got {target}")
    if not folders:
        raise UsageError("fix: expected a data set that reads folders, got none")
    below = {f: f.relative_to(data) if f.is_relative_to(data) else Path(f.name) for f in folders}
    copies = {folder: target / name for folder, name in below.items()}
    for folder, copy in copies.items():
        shutil.copytree(folder, copy, dirs_exist_ok=True)
    return Roots(copies)


def _is_bad(part: Part, example: Example) -> bool:
    """Whether an image, or its mask, cannot be used at all."""
    if part.kind == "volume":
        return False  # its case stays, and is named as not repaired
    picture = example.picture
    if picture is None or picture.kind:
        return True  # no picture: a series, whose kind of data is refused
    if part.kind != "mask":
        return False
    sizes = {(picture.height, picture.width)}
    if picture.orientation in SWAPPING:
        sizes.add((picture.width, picture.height))
    return any(mask.error or (mask.height, mask.width) not in sizes for mask in example.masks)


def _leaked(study: Study) -> set[Path]:
    """Training images whose pixels are also in another split."""
    train = study.parts.get("train")
    if train is None:
        return set()
    others = [part for name, part in study.parts.items() if name != "train"]
    evaluated = {e.read.content for part in others for e in part.examples if e.read}
    return {
        e.file.absolute()
        for e in train.examples
        if e.read is not None and e.read.content in evaluated
    }


def _rewrite(
    part: Part, dropped: set[Path], node: Mapping[str, Any], roots: Roots, log: Log
) -> None:
    """Rewrites the annotation files of a split in the copy."""
    by_file: dict[Path, list[Example]] = {}
    for example in part.examples:
        if example.annotation is not None:
            by_file.setdefault(example.annotation, []).append(example)
    rewrite = {"coco": rewrite_coco, "voc": rewrite_voc, "yolo": rewrite_yolo}.get(part.stored)
    for file, examples in by_file.items():
        if rewrite is not None:
            rewrite(roots.of(file), examples, dropped, log)
    for file in _lists(part, node):
        if roots.of(file).is_file():
            rewrite_list(roots.of(file), dropped, log)


def _lists(part: Part, node: Mapping[str, Any]) -> Iterator[Path]:
    """The text files that list the images of a split."""
    for _, one in walk(node, "data"):
        if not isinstance(one, Mapping) or not isinstance(one.get("root"), str):
            continue
        root = Path(one["root"])
        if isinstance(one.get("list_file"), str):
            yield root / one["list_file"]
        elif isinstance(split := one.get("split"), str):
            kind = "Segmentation" if part.kind == "mask" else "Main"
            yield root / "ImageSets" / kind / f"{split}.txt"


def _remove(study: Study, bad: set[Path], leaked: set[Path], roots: Roots, log: Log) -> None:
    """Deletes the files that no split of the copy uses any more."""
    kept = {
        example.file.absolute()
        for part, example in study.each()
        if example.file.absolute() not in bad | (leaked if part.name == "train" else set())
    }
    for part, example in study.each():
        file = example.file.absolute()
        if file in kept or not (file in bad or file in leaked):
            continue
        own = [file, *filter(None, example.mask_files)]
        if part.stored in ("voc", "yolo") and example.annotation is not None:
            own.append(example.annotation)
        for path in own:
            roots.of(path).unlink(missing_ok=True)
        kept.add(file)
        log.add("image left out", file, "cannot be read" if file in bad else "also in val or test")


def _turn(study: Study, gone: set[Path], roots: Roots, log: Log) -> None:
    """Applies EXIF orientations; where the annotation is of the stored image, only removes them."""
    done = set[Path]()
    for _, example in study.each():
        picture, file = example.read, example.file.absolute()
        if picture is None or picture.orientation == UPRIGHT or file in gone | done:
            continue
        done.add(file)
        mask = next(((m.height, m.width) for m in example.masks if not m.error), None)
        annotated = example.size or mask
        stored = (picture.width, picture.height) if picture.orientation in SWAPPING else None
        as_stored = annotated is not None and annotated == stored and annotated != stored[::-1]
        _save_upright(roots.of(file), turn=not as_stored)
        log.add("EXIF orientation applied" if not as_stored else "EXIF removed", file, "")


def _save_upright(file: Path, *, turn: bool) -> None:
    with Image.open(file) as image:
        form = image.format
        image.load()
        upright = ImageOps.exif_transpose(image) if turn else image.copy()
    exif = upright.getexif()
    exif.pop(TAG, None)
    with replacing(file) as part:
        upright.save(part, format=form, quality=QUALITY, exif=exif)
