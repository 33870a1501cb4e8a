"""One folder per image with one mask file per object: the layout of many nucleus and cell sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.naming import tidy_names
from densekit.data.protocols import Origin
from densekit.data.reading.files import existing_folder, folders_in, images_below, natural
from densekit.data.reading.images import ImageReader
from densekit.data.reading.progress import tracked
from densekit.data.reading.stored_values import stored_values
from densekit.data.segmentation.dataset import MaskDataset, common_size

_KEY = "ObjectMasks"


class ObjectMasks(MaskDataset):
    """Binary masks that are the union of files: `ID/images/x.png` with `ID/masks/*.png`.

    The layout of the Data Science Bowl 2018. An image whose mask folder is empty has no objects.
    Touching objects merge, as a semantic mask does not tell instances apart.

    Args:
        root: Folder with one sub-folder per image.
        name: The class of the objects.
        images: Name of the folder, in each sub-folder, that holds the image.
        masks: Name of the one that holds its masks: 0 outside the object, one other value inside.
        channels: Channels of the images; see `ImageReader`.
        dtype: "uint8" or "float32"; see `ImageReader`.
        intensity: How float images are scaled; see `ImageReader`.

    Raises:
        ValueError: Naming the file, for a missing folder of masks, other than one image in a
            folder, or different sizes.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "object",
        images: str = "images",
        masks: str = "masks",
        channels: int = 3,
        dtype: str = "uint8",
        intensity: Mapping[str, Any] | None = None,
    ) -> None:
        folder = existing_folder(Path(root), f"{_KEY}.root")
        names = tidy_names([name], f"{_KEY}.name")
        studies = [folder / study for study in sorted(folders_in(folder), key=natural)]
        if not studies:
            raise ValueError(f"{_KEY}.root: expected one folder per image in {folder}, got none")
        image_files = [_only_image(existing_folder(study / images, _KEY)) for study in studies]
        files = [_masks_of(existing_folder(study / masks, _KEY)) for study in studies]
        pairs = list(zip(image_files, files, strict=True))
        sizes = [common_size(image, of) for image, of in tracked(pairs, "comparing sizes")]
        classes = {
            "names": names,
            "ids": [1],
            "num_classes": 1,
            "background": False,
            "multilabel": False,
        }
        reader = ImageReader(channels, dtype, intensity)
        super().__init__(image_files, np.asarray(sizes), reader, classes)
        self._folders = [str(study / masks) for study in studies]

    def mask(self, index: int) -> NDArray[Any]:
        """(H, W) uint8, 1 inside any object, 0 elsewhere.

        Raises:
            ValueError: Naming the file, if it holds more than one object or cannot be read.
        """
        mask = np.zeros(self._size(index), dtype=np.uint8)
        for path in _masks_of(Path(self._folders[index])):
            stored = stored_values(path)
            if stored.ndim != 2 or len(np.unique(stored[stored != 0])) > 1:
                raise ValueError(
                    f"{path}: expected one object, 0 outside and one other value inside, got"
                    f" values {np.unique(stored)[:10].tolist()}"
                )
            mask |= stored != 0
        return mask

    def origin(self, index: int) -> Origin:
        """The files of an image and its masks, and how they are read."""
        images, how = super().origin(index)
        return [*images, *_masks_of(Path(self._folders[index]))], how

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C) image, after its masks have been checked.

        Raises:
            ValueError: Naming the file, if one cannot be read.
        """
        self.mask(index)
        return super().read(index)


def _only_image(folder: Path) -> Path:
    found = images_below(folder)
    if len(found) != 1:
        raise ValueError(f"{folder}: expected one image, got {len(found)}: {found[:3]}")
    return folder / found[0]


def _masks_of(folder: Path) -> list[Path]:
    return [folder / name for name in images_below(folder)]
