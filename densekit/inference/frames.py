"""Turns a path, an array or a tensor into the tensor that the network takes.

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

from densekit.data.medical.axes import Axes
from densekit.data.medical.grids import Grid, Volume
from densekit.data.reading.images import ImageReader
from densekit.inference.inputs import channels_first
from densekit.inference.prepared import check_prepared
from densekit.model import DenseModel
from densekit.types import Meta

if TYPE_CHECKING:
    from densekit.inference.inputs import Image

_log = logging.getLogger("densekit.inference")


class Frames:
    """Reads images and brings them into the network's frame, as the model's `info` declares it.

    A 2-D network that was trained on slices of volumes (`info["slices"]`) takes volumes.

    Args:
        model: Its `info` and channel count are read.

    Attributes:
        expected: Rules of `info["prepared"]` that every image must satisfy.
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
        # A model with a further head for whole images cannot refuse them.
        self.expected = list(known.values()) if set(model.heads) <= set(known) else []
        is_of_bytes = self.dims == 2 and self.dtype == "uint8"
        self.full_scale = model.full_scale if is_of_bytes else None

    @cached_property
    def _pictures(self) -> ImageReader:
        return ImageReader(self.channels, self.dtype)

    def read(self, path: Path, size: tuple[int, int] | None = None) -> NDArray[Any] | Volume:
        """Reads an image (H, W, C), a series (L, C), or a NIfTI or DICOM volume with its frame.

        Args:
            path: The file, or the folder of a DICOM series.
            size: Annotated height and width of the image, see `ImageReader`.

        Raises:
            ValueError: The file cannot be read; names it.
        """
        if self.dims == 1:
            found = self.series(path)
            if len(found) != 1:
                raise ValueError(f"{path}: expected one series, got {len(found)}")
            return found[0]
        if self.dims != 3:
            return self._pictures(path, size)
        from densekit.data.medical.volumes import read_volume

        return read_volume(path)

    def series(self, path: Path) -> list[NDArray[Any]]:
        """Reads all series (L, C) of a file, or encodes all letter sequences if the model uses any.

        Raises:
            ValueError: The file cannot be read; names it.
        """
        if self.letters is None:
            from densekit.data.classification.series import read_series

            return read_series(path)
        from densekit.data.classification.sequences import encode, read_sequences

        shares = {code: np.asarray(row, np.float32) for code, row in self.letters.items()}
        return [encode(text, shares, where) for where, text in read_sequences(path)]

    def prepared(self, image: Image, where: str = "image") -> tuple[Tensor, Meta]:
        """Returns (C, *S) uint8 or float32 in the network's frame, and the original size and axes.

        Arrays and tensors are assumed to have the orientation and spacing of the training data.

        Args:
            image: One of `inputs.Image`.
            where: Name of the image in messages; files are named by their path.

        Raises:
            ValueError: The number of axes or channels differs from the model's, the values cannot
                be in its unit, or a volume does not declare its orientation.
            TypeError: The model was not trained with this type.
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

    def axes_of(self, grid: Grid) -> Axes | None:
        """The axes that turn a stored volume into the network's orientation; None for as stored.

        Raises:
            ValueError: The volume has other channels than the model, or states no orientation.
        """
        from densekit.data.medical.axes import axes_to
        from densekit.data.medical.grids import orientation_of
        from densekit.data.medical.nifti import two_frames

        if self._is_unsure and grid.is_placed:
            self._is_unsure = False
            _log.warning(
                "the model does not state the orientation it was trained in: axes are used as"
                " stored, the first volume is %s (%s); results are wrong if training used another",
                *(grid.path, orientation_of(grid)),
            )
        if conflict := two_frames(grid):
            _log.warning("sform and qform differ, the sform is used: %s", conflict)
        if grid.channels != self.channels:
            raise ValueError(
                f"{grid.path}: expected {self.channels} channels, got {grid.channels}; if each"
                " channel is a file of its own, `channels=[NAME, ...]` names those of a patient;"
                " a table has one column per channel"
            )
        return axes_to(grid, self.orientation)

    def _volume(self, volume: Volume) -> tuple[Tensor, Meta]:
        """`prepared` for a volume with its frame, through the functions that the data set uses."""
        from densekit.data.medical.axes import turned, turned_sides
        from densekit.data.medical.resample import network_frame

        axes = self.axes_of(volume)
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
