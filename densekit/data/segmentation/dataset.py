"""Base classes of the data sets of semantic masks, whatever their format.

H, W the size of an image, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.protocols import Origin
from densekit.data.reading.image_files import SizedImages
from densekit.data.reading.images import ImageReader, possible_sizes
from densekit.data.reading.progress import tracked
from densekit.data.reading.stored_values import mask_size, stored_values
from densekit.data.segmentation.codes import MaskCode
from densekit.types import IGNORE_INDEX, Meta, Sample, Truth


class MaskDataset(SizedImages):
    """Images, each with a semantic mask.

    Args:
        paths: The image files.
        sizes: (N, 2) annotated height and width of each image.
        reader: Reads the image files.
        classes: The masks' part of `describe`.
        image_ids: The data set's own id of each image; the index by default.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        sizes: NDArray[Any],
        reader: ImageReader,
        classes: Mapping[str, Any],
        image_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reader)
        self.names: list[str] = list(classes["names"])
        self._paths = _as_bytes(paths)
        self._sizes = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
        self._classes = dict(classes)
        self._image_ids = np.asarray(range(len(paths)) if image_ids is None else image_ids)

    @abstractmethod
    def mask(self, index: int) -> NDArray[Any]:
        """(H, W) uint8 classes of an image, or multi-label (K, H, W); 255 where ignored."""

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every image."""
        return self._sizes

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of classes; channels, dtype and intensity of the images."""
        return {**self._classes, **self._reader.describe()}

    def path(self, index: int) -> Path:
        """The file of an image."""
        return Path(self._paths[index].decode())

    def __getitem__(self, index: int) -> Sample:
        """The image and its mask, which is also the ground truth.

        Raises:
            ValueError: Naming the file, if one cannot be read or the mask holds a value outside the
                classes.
        """
        height, width = self._size(index)
        path, mask, image_id = self.path(index), self.mask(index), int(self._image_ids[index])
        return Sample(
            image=super().read(index),  # without a second look at the mask
            mask=mask,
            index=index,
            meta=Meta(path=str(path), image_id=image_id, original_size=(height, width)),
            truth=Truth(image_id=image_id, size=(height, width), mask=mask),
        )


class PairedMasks(MaskDataset):
    """Images whose masks are files.

    Args:
        images: The image files.
        masks: The mask file of each image, or one per class, None where the class is absent.
        code: Maps stored values to classes.
        reader: Reads the image files.
        roi: The region of interest of each image, a file whose pixels are 0 outside; None for the
            whole image.

    Raises:
        ValueError: If an image and its mask differ in size; names both.
    """

    def __init__(
        self,
        images: Sequence[Path],
        masks: Sequence[Sequence[Path | None]],
        code: MaskCode,
        reader: ImageReader,
        roi: Sequence[Path] | None = None,
    ) -> None:
        regions = [(file,) for file in roi] if roi is not None else [()] * len(images)
        files = [(*of, *region) for of, region in zip(masks, regions, strict=True)]
        pairs = list(zip(images, files, strict=True))
        sizes = [common_size(image, files) for image, files in tracked(pairs, "comparing sizes")]
        super().__init__(images, np.asarray(sizes), reader, code.describe())
        self.code = code
        self._masks = _as_bytes([file or Path() for files in masks for file in files])
        self._masks = self._masks.reshape(len(images), -1)
        self._roi = None if roi is None else _as_bytes(roi)

    def mask(self, index: int) -> NDArray[Any]:
        """(H, W) uint8 classes of an image, or multi-label (K, H, W); 255 where ignored.

        Raises:
            ValueError: Naming the file, for values outside the classes.
        """
        mask = self.code.read(self._mask_files(index), self._size(index))
        if self._roi is not None:
            mask[..., self._outside(index)] = IGNORE_INDEX
        return mask

    def origin(self, index: int) -> Origin:
        """The files of an image and its mask, and how they are read."""
        images, how = super().origin(index)
        masks = [file for file in self._mask_files(index) if file is not None]
        roi = [] if self._roi is None else [Path(self._roi[index].decode())]
        return [*images, *masks, *roi], f"{how} {self.code}"

    def read(self, index: int) -> NDArray[Any]:
        """(H, W, C) image, after its mask has been checked.

        Raises:
            ValueError: Naming the file, if one cannot be read.
        """
        self.mask(index)
        return super().read(index)

    def _mask_files(self, index: int) -> list[Path | None]:
        return [Path(file.decode()) if file != _NO_FILE else None for file in self._masks[index]]

    def _outside(self, index: int) -> NDArray[Any]:
        """(H, W) bool: pixels outside the region of interest."""
        assert self._roi is not None
        path = Path(self._roi[index].decode())
        stored = stored_values(path)
        if stored.ndim != 2:
            raise ValueError(f"{path}: expected one plane, got {len(stored)} planes")
        return np.asarray(stored == 0)


_NO_FILE = str(Path()).encode()


def _as_bytes(paths: Sequence[Path]) -> NDArray[Any]:
    """The paths as one flat array, which loader workers share instead of copying objects."""
    return np.asarray([str(path).encode() for path in paths])


def common_size(image: Path, masks: Sequence[Path | None]) -> tuple[int, int]:
    """Height and width that an image, in one of its orientations, shares with its masks.

    Unreadable files fit any size: they are reported later, all together.
    """
    accepted: tuple[tuple[int, int], ...] = ()
    with suppress(ValueError):
        accepted = possible_sizes(image)
    size = accepted[0] if accepted else (1, 1)
    for mask in masks:
        if mask is None:
            continue
        try:
            size = mask_size(mask)
        except ValueError:
            continue
        if accepted and size not in accepted:
            wanted = " x ".join(map(str, accepted[0]))
            raise ValueError(
                f"{mask}: expected height x width {wanted} of its image {image}, got"
                f" {size[0]} x {size[1]}"
            )
        accepted = (size, size)
    return size
