"""Pascal VOC XML, object by object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from densekit.app.doctor.facts import Defect, Example, Item
from densekit.app.doctor.readers.records import Records, parsed
from densekit.data.detection.voc import WORDS, parse_xml
from densekit.data.reading.files import (
    existing_folder,
    files_below,
    images_by_stem,
    listed_stems,
    same_name,
)

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocRecords(Records):
    """Images with one XML file each.

    Args:
        root: Folder of the data set.
        split: Name of a file in `ImageSets/Main`, or None for all images.
        images: Folder of the images, relative to `root`.
        annotations: Folder of the XML files, relative to `root`.
        names: Class names, if they are given in the configuration.
        channels: Declared channels of the images.
        dtype: Declared type of the images.
        others: Arguments of the data set class that the doctor has no use for.

    Raises:
        ValueError: If a folder or the list of the split is missing.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        images: str = "JPEGImages",
        annotations: str = "Annotations",
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        **others: Any,
    ) -> None:
        folder = existing_folder(Path(root) / images, "images")
        xml = existing_folder(Path(root) / annotations, "annotations")
        xml_of = {same_name(name[:-4]): xml / name for name in files_below(xml, (".xml",))}
        by_stem = images_by_stem(folder)
        lists = Path(root) / "ImageSets" / "Main"
        stems = (
            sorted({*by_stem, *xml_of}, key=str.casefold)
            if split is None
            else listed_stems(lists, split, "split", by_stem)
        )
        defects: list[Defect] = []
        examples: list[Example] = []
        for stem in stems:
            path = xml_of.get(stem)
            if stem not in by_stem and path is not None and split is None:
                message = f"no image {folder / stem}.*"
                defects.append(Defect("annotation-without-image", path, message))
                continue
            image = _image(stem, by_stem, folder)
            example = _example(len(examples), image, path, defects)
            examples.append(example)
        super().__init__(
            examples,
            defects,
            names or _classes(xml_of.values()),
            stored="voc",
            kind="boxes",
            channels=channels,
            dtype=dtype,
        )


def _classes(files: Iterable[Path]) -> list[str]:
    """Every class of the folder, so that all splits agree."""
    found = set[str]()
    for file in files:
        with suppress(ValueError):  # a split that uses the file reports it
            found |= {(e.findtext("name") or "").strip() for e in parse_xml(file).iter("object")}
    return sorted(found - {""})


def _image(stem: str, by_stem: Mapping[str, Sequence[str]], folder: Path) -> Path:
    """The image of a name; one that does not exist if there is none."""
    return folder / by_stem.get(stem, [f"{stem}.jpg"])[0]


def _example(index: int, image: Path, path: Path | None, defects: list[Defect]) -> Example:
    if path is None:
        return Example(image, index)
    tree = parsed(path, parse_xml, defects)
    if tree is None:
        return Example(image, index, annotation=path)
    items = []
    for place, element in enumerate(tree.iter("object"), start=1):
        item = _item(element, place)
        if isinstance(item, Item):
            items.append(item)
        else:
            defects.append(Defect("malformed-record", path, f"object {place}: {item}"))
    return Example(image, index, _size(tree), path, tuple(items))


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    sides = [tree.findtext(f"size/{side}") or "" for side in ("height", "width")]
    if not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _item(element: ElementTree.Element, place: int) -> Item | str:
    """The object, or what is wrong with its record."""
    name = (element.findtext("name") or "").strip()
    corners = [element.findtext(f"bndbox/{key}") for key in CORNERS]
    if not name:
        return "expected a name, got none"
    try:
        xmin, ymin, xmax, ymax = (float(corner or "") for corner in corners)
    except ValueError:
        return f"expected the numbers {', '.join(CORNERS)}, got {corners}"
    flag = WORDS.get((element.findtext("difficult") or "0").strip().casefold(), False)
    box = (xmin - 1, ymin - 1, xmax, ymax)  # VOC counts pixels from 1 and includes both corners
    return Item(box, name, f"object {place} ({name})", difficult=flag)
