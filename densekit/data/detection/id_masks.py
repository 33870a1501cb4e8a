"""A folder of images and a folder of masks whose values number the objects.

N images, M objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.annotations.findings import Findings
from densekit.data.annotations.id_maps import NumberedObject, numbered_objects
from densekit.data.annotations.outlines import encode
from densekit.data.annotations.packed import Rows, pack
from densekit.data.detection.dataset import BoxDataset
from densekit.data.naming import check_names
from densekit.data.reading.files import existing_folder, same_name
from densekit.data.reading.images import ImageReader, possible_sizes
from densekit.data.reading.pairs import files_by_name, matched
from densekit.data.reading.progress import tracked
from densekit.data.reading.stored_values import stored_values
from densekit.data.reading.tables import read_text

_KEY = "IdMasks"


class IdMasks(BoxDataset):
    """Images with one mask each whose pixels store the number of their object; 0 is background.

    Boxes enclose the pixels of an object, also if it is in several parts. Images and masks are
    paired by name, as in `MaskFolder`; image ids are indices. Masks are read once, when the data
    set is built.

    Args:
        root: Folder of the data set.
        names: The name of all objects' class; or, with `divisor`, class names to their codes.
        images: Folder of the images, relative to `root`.
        masks: Folder of the masks, relative to `root`.
        mask_suffix: End of a mask's name, before its extension, that its image lacks.
        listed: Text file of the names of the images to take, one per line, relative to `root`; all
            by default.
        divisor: The class of a value is `value // divisor`: 1000 for `instanceIds` of Cityscapes. A
            value below the divisor is a region of that class, a crowd, and is no object. Other
            codes than those in `names` are background. 0: all objects are of one class.
        ignore: Values that belong to no object.
        instance_masks: Whether samples have instance masks.
        channels: Channels of the images, 1, 3 or 4.
        dtype: "uint8" or "float32"; see `ImageReader`.

    Raises:
        ValueError: Naming the file, for an image without a mask, a mask of another size or of
            planes, or a listed name without an image.
    """

    def __init__(
        self,
        root: str | Path,
        names: Sequence[str] | Mapping[str, int],
        *,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        listed: str | None = None,
        divisor: int = 0,
        ignore: Sequence[int] = (),
        instance_masks: bool = False,
        channels: int = 3,
        dtype: str = "uint8",
    ) -> None:
        folder = existing_folder(Path(root) / images, f"{_KEY}.images")
        targets = existing_folder(Path(root) / masks, f"{_KEY}.masks")
        codes = _codes(names, divisor)
        by_name = files_by_name(folder, ("", ""))
        if listed is not None:
            by_name = _listed(Path(root) / listed, by_name)
        if not by_name:
            raise ValueError(f"{_KEY}.images: expected images in {folder}, got none")
        files = matched(by_name, targets, ("", mask_suffix), "mask")
        label_of = {code: label for label, code in enumerate(codes.values())}
        rows, sizes = Rows.empty(), np.zeros((len(files), 2), dtype=np.int64)
        pairs = list(zip(by_name.values(), files, strict=True))
        for image, (picture, file) in enumerate(tracked(pairs, "reading masks")):
            ids = _ids(file, picture)
            sizes[image] = ids.shape
            for one in numbered_objects(ids):
                code = max(one.value // divisor, one.value % divisor) if divisor else 1
                if code in label_of and one.value not in ignore:
                    _add(rows, one, image, label_of[code], file, ids.shape)
                    rows.crowd.append(one.value < divisor)
        paths = [path.relative_to(folder).as_posix() for path in by_name.values()]
        every = np.ones(len(rows.image), dtype=bool)
        super().__init__(
            pack(rows, every, paths, range(len(paths)), sizes, segments=instance_masks),
            folder,
            ImageReader(channels, dtype),
            names=list(codes),
            ids=list(codes.values()),
            findings=Findings(str(targets), strict=False),
        )


def _codes(names: Sequence[str] | Mapping[str, int], divisor: int) -> dict[str, int]:
    """Class name to the code that values of its objects begin with."""
    key = f"{_KEY}.names"
    classes = check_names(list(names), key) if not isinstance(names, str) else [names]
    if not divisor:
        if len(classes) > 1:
            raise ValueError(
                f"{_KEY}.divisor: expected the number by which values are divided to tell"
                f" {len(classes)} classes apart (1000 for Cityscapes), got 0"
            )
        return {classes[0]: 1}
    if not isinstance(names, Mapping) or not all(
        isinstance(code, int) and 0 < code < divisor for code in names.values()
    ):
        raise ValueError(
            f"{key}: expected class names to codes from 1 to {divisor - 1}, got {names}"
        )
    return dict(names)


def _listed(path: Path, by_name: Mapping[str, Path]) -> dict[str, Path]:
    """The images that a file lists, with or without their extensions."""
    stems = {same_name(Path(file.name).name): name for name, file in by_name.items()}
    known = {**stems, **{name: name for name in by_name}}
    names = [same_name(line.strip()) for line in read_text(path, f"{_KEY}.listed").splitlines()]
    names = [name for name in names if name]
    for name in names:
        if name not in known:
            raise ValueError(unknown(f"{path}: image", name, known))
    found = {known[name]: by_name[known[name]] for name in names}
    if len(found) < len(names):
        repeated = len(names) - len(found)
        raise ValueError(f"{path}: expected every image once, got {repeated} repeated lines")
    return found


def _ids(file: Path, picture: Path) -> NDArray[Any]:
    """(H, W) values of a mask, checked to have the image's size."""
    ids = stored_values(file)
    try:
        sizes = possible_sizes(picture)
    except ValueError:  # reported when images are read, all together
        sizes = (ids.shape[:2],) * 2
    if ids.shape not in sizes:
        raise ValueError(
            f"{file}: expected a mask of the size {list(sizes[0])} of {picture}, got"
            f" {list(ids.shape)}"
        )
    return ids


def _add(
    rows: Rows, one: NumberedObject, image: int, label: int, file: Path, size: tuple[int, ...]
) -> None:
    height, width = size
    outline, _ = encode({"size": [height, width], "counts": one.counts}, (height, width))
    rows.image.append(image)
    rows.name.append(f"{file}: value {one.value}")
    rows.box.append(one.box)
    rows.label.append(label)
    rows.area.append(one.area)
    rows.difficult.append(False)
    rows.segment.append(outline)
