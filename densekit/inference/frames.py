"""From what a user gives, a path, an array or a tensor, to what the network takes.

Shape letters: C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.grids import Volume
from densekit.data.reading.images import ImageReader
from densekit.inference.expected import check_prepared
from densekit.inference.given import channels_first
from densekit.model import DenseModel
from densekit.types import Meta

if TYPE_CHECKING:
    from densekit.inference.given import Image

_log = logging.getLogger("densekit.inference")


class Frames:
    """Reads images and brings them into the network's frame, as the model's `info` declares it.

    A network for pictures that was trained on slices of volumes (`info["slices"]`) takes volumes.

    Args:
        model: Its `info` and channels are looked at.

    Attributes:
        expected: Rules of `info["prepared"]` that every picture has to keep.
    """

    def __init__(self, model: DenseModel) -> None:
        info = model.info
        self.slices = info.get("slices")
        self.dims = 3 if self.slices else model.spatial_dims
        neighbours = int(self.slices.get("neighbours", 0)) if self.slices else 0
        self.channels = model.mean.shape[1] // (2 * neighbours + 1)
        self.intensity = info.get("intensity")
        self.letters = info.get("letters")
        self.spacing = info.get("spacing")
        self.orientation = info.get("orientation")
        self._is_unsure = self.orientation is None  # then volumes are taken as they are stored
        self.dtype = "float32" if self.intensity else str(info.get("dtype", "uint8"))
        self.resize = info.get("resize")
        known = info.get("prepared", {})
        # A model that also does something else with whole pictures is asked head by head.
        self.expected = list(known.values()) if set(model.heads) <= set(known) else []
        is_of_bytes = self.dims == 2 and self.dtype == "uint8"
        self.full_scale = model.full_scale if is_of_bytes else None

    @cached_property
    def _pictures(self) -> ImageReader:
        return ImageReader(self.channels, self.dtype)

    def read(self, path: Path, size: tuple[int, int] | None = None) -> NDArray[Any] | Volume:
        """A picture (H, W, C), a series (L, C), or a volume with its frame, NIfTI or DICOM.

        Args:
            path: The file.
            size: Height and width that a picture is annotated with, see `ImageReader`.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        if self.dims == 1:
            found = self.series(path)
            if len(found) != 1:
                raise ValueError(f"{path}: holds {len(found)} series, accepted is one")
            return found[0]
        if self.dims != 3:
            return self._pictures(path, size)
        from densekit.data.medical.volumes import read_volume

        return read_volume(path)

    def series(self, path: Path) -> list[NDArray[Any]]:
        """All series (L, C) of a file, or all sequences of letters where the model knows some.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        if self.letters is None:
            from densekit.data.classification.series import read_series

            return read_series(path)
        from densekit.data.classification.sequences import encode, read_sequences

        shares = {code: np.asarray(row, np.float32) for code, row in self.letters.items()}
        return [encode(text, shares, where) for where, text in read_sequences(path)]

    def prepared(self, image: Image, where: str = "image") -> tuple[Tensor, Meta]:
        """(C, *S) uint8 or float32 in the network's frame, and the size and axes before.

        Arrays and tensors are taken to have the orientation and the spacing that the model was
        trained with.

        Args:
            image: One of `given.Image`.
            where: What it is called in messages; a file by its name.

        Raises:
            ValueError: The number of axes or of channels is another than the model's, the values
                cannot be of its unit, or a volume does not say how it lies in the body.
            TypeError: The type is one that the model was not trained with.
        """
        if isinstance(image, str | Path):
            where = str(image)
            image = self.read(Path(image))
        if isinstance(image, Volume):
            return self._volume(image)
        tensor = self._channels_first(image, where)
        for rule in self.expected:
            check_prepared(tensor.shape[1:], rule, self.resize, where)
        meta = Meta(original_size=tuple(tensor.shape[1:]))
        if self.intensity is None:
            return tensor, meta
        from densekit.data.reading.intensity import scale

        array = tensor.movedim(0, -1).cpu().numpy()
        return torch.from_numpy(scale(array, self.intensity)).movedim(-1, 0), meta

    def _volume(self, volume: Volume) -> tuple[Tensor, Meta]:
        """The same for a volume with its frame, by the functions that the data set reads with."""
        from densekit.data.medical.axes import axes_to, turned, turned_sides
        from densekit.data.medical.grids import orientation_of
        from densekit.data.medical.nifti import two_frames
        from densekit.data.medical.resample import network_frame

        if self._is_unsure and volume.is_placed:
            self._is_unsure = False
            _log.warning(
                "the model does not say in which orientation it was trained: axes are taken as"
                " stored, the first volume is %s (%s); results are wrong where training had others",
                *(volume.path, orientation_of(volume)),
            )
        if said := two_frames(volume):
            _log.warning("sform and qform differ, the sform is used: %s", said)
        if volume.channels != self.channels:
            raise ValueError(
                f"{volume.path}: expected {self.channels} channels, got {volume.channels}; where"
                " each is a file, `channels=[NAME, ...]` names those of a patient, and a table has"
                " a column for each"
            )
        axes = axes_to(volume, self.orientation)
        image = self._channels_first(turned(volume.image, axes), volume.path).movedim(0, -1).numpy()
        spacing = turned_sides(volume.spacing, axes)
        framed = network_frame(image, spacing, self.intensity, self.spacing)
        meta = Meta(original_size=volume.shape, axes=axes)
        return torch.from_numpy(framed).movedim(-1, 0), meta

    def _channels_first(self, image: Any, where: str) -> Tensor:
        return channels_first(
            image,
            self.dims,
            self.channels,
            deep=self.dtype == "float32",
            full_scale=self.full_scale,
            where=where,
        )
