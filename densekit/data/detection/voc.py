"""Pascal VOC: one XML file per image, splits as text files."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from densekit._names import unknown
from densekit._reading import check_regular
from densekit.data.annotations.findings import Findings
from densekit.data.annotations.packed import Rows, pack
from densekit.data.annotations.sanitise import sanitise
from densekit.data.detection.dataset import BoxDataset
from densekit.data.naming import check_names
from densekit.data.reading.files import (
    check_stems,
    existing_folder,
    files_below,
    images_by_stem,
    listed_stems,
    only_image,
    same_name,
)
from densekit.data.reading.images import ImageReader, size_if_readable

FLAGS = ("difficult", "truncated", "occluded")
WORDS = {
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n", "", "unspecified"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
}
"""Spellings of a flag; VOC itself uses 0, 1 and, where nobody annotated it, Unspecified."""

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_log = logging.getLogger("densekit.data")


class VocDetection(BoxDataset):
    """Images with one XML file each: VOC's layout, or any two folders of images and XML.

    Files are paired by their path below the two folders, so that `cam1/a.jpg` has `cam1/a.xml`;
    between `a.jpg` and `a.png` the `<filename>` of the XML decides. VOC counts pixels from 1 and
    includes both corners, so 1 is subtracted from xmin and ymin only. Image ids are indices.

    Args:
        root: Folder of the data set (`VOCdevkit/VOC2012`).
        split: Name of a file in `ImageSets/Main`; None takes every image that has an XML file,
            to be divided by `Split` and `SplitRule`.
        images: Folder of the images, relative to `root`.
        annotations: Folder of the XML files, relative to `root`; it may be the same.
        names: Class names in the order of their labels; the default is every class in the folder
            of XML files, sorted, so that all splits agree.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.
        strict: Raise at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: Naming the file and the number of the object in it, for a missing or malformed
            file, an unknown class, or a box that is not finite.
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
        strict: bool = False,
    ) -> None:
        root = existing_folder(Path(root), "VocDetection.root")
        folder = existing_folder(root / images, "VocDetection.images")
        xml = existing_folder(root / annotations, "VocDetection.annotations")
        xml_of = {
            same_name(name[: -len(".xml")]): xml / name for name in files_below(xml, (".xml",))
        }
        by_stem = images_by_stem(folder)
        if split is None:
            stems = _annotated(by_stem, xml_of, folder, xml)
        else:
            splits = root / "ImageSets" / "Main"
            stems = listed_stems(splits, split, "VocDetection.split", by_stem)
        check_stems(stems, by_stem, folder, f"split {split!r}" if split else str(xml))
        classes = _scan(xml_of, xml) if names is None else check_names(names, "VocDetection.names")
        findings = Findings(f"{xml} ({split})" if split else str(xml), strict)
        rows, sizes = Rows.empty(), np.zeros((len(stems), 2), dtype=np.int64)
        files: list[str] = []
        for image, stem in enumerate(stems):
            path = xml_of.get(stem, xml / f"{stem}.xml")
            tree = parse_xml(path)
            image_file = only_image(by_stem[stem], folder, tree.findtext("filename") or "")
            files.append(str(image_file.relative_to(folder)))
            sizes[image] = _size(tree, image_file)
            _add_objects(rows, tree, image, classes, path)
        keep = sanitise(
            rows.boxes(),
            sizes[np.asarray(rows.image, dtype=np.int64)],
            lambda row: f"{stems[rows.image[row]]}.xml, {rows.name[row]}",
            findings,
        )
        findings.log()
        super().__init__(
            pack(rows, keep, files, list(range(len(stems))), sizes, segments=False),
            folder,
            ImageReader(channels, dtype),
            names=classes,
            ids=list(range(1, len(classes) + 1)),
            findings=findings,
        )


def _annotated(
    by_stem: Mapping[str, Sequence[str]], xml_of: Mapping[str, Path], folder: Path, xml: Path
) -> list[str]:
    """Names that have an XML file, in the order of the images; warns of images without one."""
    if not xml_of:
        raise ValueError(f"VocDetection.annotations: {xml}: expected XML files, got none")
    if spare := [stem for stem in by_stem if stem not in xml_of]:
        first = folder / by_stem[spare[0]][0]
        _log.warning("%s: skipped %d images without an XML file, e.g. %s", xml, len(spare), first)
    return [*(s for s in by_stem if s in xml_of), *(s for s in xml_of if s not in by_stem)]


def parse_xml(path: Path) -> ElementTree.Element:
    """The `<annotation>` element of a file in any encoding and namespace.

    Raises:
        ValueError: Naming the file, if it is not XML of Pascal VOC.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file, got: {error.strerror}") from error
    try:
        tree = ElementTree.fromstring(_decoded(content))  # nosec B314 # expat limits entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: expected XML, got: {error}") from error
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if tree.tag != "annotation":
        raise ValueError(f"{path}: expected <annotation> of Pascal VOC, got <{tree.tag}>")
    for element in tree.iter():
        if element.tag != "object" and element.tag.casefold() in ("object", "objects"):
            raise ValueError(f"{path}: expected <object> of Pascal VOC, got <{element.tag}>")
    return tree


def _decoded(content: bytes) -> bytes | str:
    """The content for the parser, which supports only Unicode and single-byte encodings."""
    declared = _DECLARED.match(content)
    if declared is None:
        return content
    return content.decode(declared[1].decode()).partition("?>")[2]


def _scan(xml_of: Mapping[str, Path], folder: Path) -> list[str]:
    """All class names that occur in a folder of annotations, sorted."""
    found = {
        _class_name(item, path, number)
        for path in xml_of.values()
        for number, item in enumerate(parse_xml(path).iter("object"), start=1)
    }
    return check_names(sorted(found), f"classes found in {folder}")


def _class_name(item: ElementTree.Element, path: Path, number: int) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{path}: object {number}: expected a name, got none")
    return name


def _size(tree: ElementTree.Element, image: Path) -> tuple[int, int]:
    """Annotated height and width, or those of the image's header if the annotation has none."""
    height, width = tree.findtext("size/height"), tree.findtext("size/width")
    try:
        size = int(float(height or 0)), int(float(width or 0))
    except (ValueError, OverflowError):
        size = 0, 0
    return size if min(size) > 0 and max(size) < 1 << 31 else size_if_readable(image)


def _add_objects(
    rows: Rows, tree: ElementTree.Element, image: int, classes: list[str], path: Path
) -> None:
    for number, item in enumerate(tree.iter("object"), start=1):
        name = _class_name(item, path, number)
        if name not in classes:
            raise ValueError(unknown(f"{path}: object {number}: class", name, classes))
        box = _box(item, path, number)
        rows.image.append(image)
        rows.name.append(f"object {number} ({name})")
        rows.box.append(box)
        rows.label.append(classes.index(name))
        rows.area.append((box[2] - box[0]) * (box[3] - box[1]))
        rows.crowd.append(False)
        flags = {key: _flag(item, key, path, number) for key in FLAGS}
        rows.difficult.append(flags["difficult"])


def _box(item: ElementTree.Element, path: Path, number: int) -> tuple[float, float, float, float]:
    corners = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        xmin, ymin, xmax, ymax = (float(corner or "") for corner in corners)
    except ValueError:
        raise ValueError(
            f"{path}: object {number}: bndbox: expected the numbers xmin, ymin, xmax, ymax, got"
            f" {corners}"
        ) from None
    return xmin - 1, ymin - 1, xmax, ymax


def _flag(item: ElementTree.Element, key: str, path: Path, number: int) -> bool:
    word = (item.findtext(key) or "0").strip()
    flag = WORDS.get(word.casefold())
    if flag is None:
        raise ValueError(f"{path}: object {number}: {key}: expected 0 or 1, got {word!r}")
    return flag
