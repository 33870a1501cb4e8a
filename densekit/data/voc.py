"""Pascal VOC: one XML file an image, splits as text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from densekit.data.annotations import Rows, pack
from densekit.data.boxes import BoxDataset
from densekit.data.files import existing_folder, images_by_stem, listed_stems
from densekit.data.findings import Findings
from densekit.data.images import ImageReader, stored_size
from densekit.data.naming import check_names, nearest
from densekit.data.sanitise import sanitise


class VocDetection(BoxDataset):
    """A data set in VOC's layout: `Annotations`, `JPEGImages`, `ImageSets/Main/SPLIT.txt`.

    VOC counts pixels from 1 and includes both corners, so 1 is subtracted from xmin and ymin alone.
    Image ids are positions in the split.

    Args:
        root: Folder of the data set (`VOCdevkit/VOC2012`).
        split: Name of a file in `ImageSets/Main`.
        names: Class names in the order of their labels; the default is every class of the folder
            `Annotations`, sorted, so that all splits agree.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.
        strict: Raise at the first defective annotation instead of repairing and counting it.

    Raises:
        ValueError: For a missing or malformed file, an unknown class, a box that is not finite;
            always with the file and the number of the object in it.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        names: Sequence[str] | None = None,
        channels: int = 3,
        dtype: str = "uint8",
        strict: bool = False,
    ) -> None:
        folder = existing_folder(Path(root), "VocDetection.root")
        images = existing_folder(folder / "JPEGImages", "VocDetection.root")
        xml = existing_folder(folder / "Annotations", "VocDetection.root")
        stems = listed_stems(folder / "ImageSets" / "Main", split, "VocDetection.split")
        by_stem = images_by_stem(images)
        missing = [stem for stem in stems if stem not in by_stem]
        if missing:
            raise ValueError(
                f"split {split!r}: {len(missing)} of {len(stems)} images are missing, the first is"
                f" {images / (missing[0] + '.jpg')}"
            )
        classes = _scan(xml) if names is None else check_names(names, "VocDetection.names")
        findings = Findings(f"{xml} ({split})", strict)
        rows, sizes = Rows.empty(), np.zeros((len(stems), 2), dtype=np.int64)
        for image, stem in enumerate(stems):
            tree = _parse(xml / f"{stem}.xml")
            sizes[image] = _size(tree, images / by_stem[stem])
            _add_objects(rows, tree, image, classes, xml / f"{stem}.xml")
        keep = sanitise(
            rows.boxes(),
            sizes[np.asarray(rows.image, dtype=np.int64)],
            lambda row: f"{stems[rows.image[row]]}.xml, {rows.name[row]}",
            findings,
        )
        findings.log()
        files = [by_stem[stem] for stem in stems]
        super().__init__(
            pack(rows, keep, files, list(range(len(stems))), sizes, segments=False),
            images,
            ImageReader(channels, dtype),
            names=classes,
            ids=list(range(1, len(classes) + 1)),
            findings=findings,
        )


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not valid XML: {error}") from error


def _scan(folder: Path) -> list[str]:
    """All class names that occur in a folder of annotations, sorted."""
    found = {
        _class_name(item, path, number)
        for path in sorted(folder.glob("*.xml"))
        for number, item in enumerate(_parse(path).iter("object"), start=1)
    }
    return check_names(sorted(found), f"classes found in {folder}")


def _class_name(item: ElementTree.Element, path: Path, number: int) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{path}: object {number} has no name")
    return name


def _size(tree: ElementTree.Element, image: Path) -> tuple[int, int]:
    """Annotated height and width; from the image's header where the annotation leaves them out."""
    height, width = tree.findtext("size/height"), tree.findtext("size/width")
    try:
        size = int(float(height or 0)), int(float(width or 0))
    except ValueError:
        size = 0, 0
    return size if min(size) > 0 else stored_size(image)


def _add_objects(
    rows: Rows, tree: ElementTree.Element, image: int, classes: list[str], path: Path
) -> None:
    for number, item in enumerate(tree.iter("object"), start=1):
        name = _class_name(item, path, number)
        if name not in classes:
            raise ValueError(
                f"{path}: object {number}: unknown class {name!r}; {nearest(name, classes)}"
            )
        box = _box(item, path, number)
        rows.image.append(image)
        rows.name.append(f"object {number} ({name})")
        rows.box.append(box)
        rows.label.append(classes.index(name))
        rows.area.append((box[2] - box[0]) * (box[3] - box[1]))
        rows.crowd.append(False)
        rows.difficult.append((item.findtext("difficult") or "0").strip() == "1")


def _box(item: ElementTree.Element, path: Path, number: int) -> tuple[float, float, float, float]:
    corners = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        xmin, ymin, xmax, ymax = (float(corner or "") for corner in corners)
    except ValueError:
        raise ValueError(
            f"{path}: object {number}: bndbox needs the numbers xmin, ymin, xmax, ymax, found"
            f" {corners}"
        ) from None
    return xmin - 1, ymin - 1, xmax, ymax
