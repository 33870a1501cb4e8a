"""From what a user gives, a path, an array or a tensor, to what the network takes.

Shape letters: C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.images import ImageReader
from densekit.model import DenseModel

if TYPE_CHECKING:
    from densekit.data.grids import Volume

    Image = str | Path | NDArray[Any] | Tensor | Volume

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


class Frames:
    """Reads images and brings them into the network's frame, as the model's `info` declares it.

    A network for pictures that was trained on slices of volumes (`info["slices"]`) takes volumes.

    Args:
        model: Its `info` and channels are looked at.
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
        self.dtype = "float32" if self.intensity else str(info.get("dtype", "uint8"))

    @cached_property
    def _pictures(self) -> ImageReader:
        return ImageReader(self.channels, self.dtype)

    def read(self, path: Path) -> NDArray[Any] | Volume:
        """A picture (H, W, C), a series (L, C), or a volume with its frame, NIfTI or DICOM.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        if self.dims == 1:
            found = self.series(path)
            if len(found) != 1:
                raise ValueError(f"{path}: holds {len(found)} series, accepted is one")
            return found[0]
        if self.dims != 3:
            return self._pictures(path)
        from densekit.data.volumes import read_volume

        return read_volume(path)

    def series(self, path: Path) -> list[NDArray[Any]]:
        """All series (L, C) of a file, or all sequences of letters where the model knows some.

        Raises:
            ValueError: Naming the file, if it cannot be read.
        """
        if self.letters is None:
            from densekit.data.series import read_series

            return read_series(path)
        from densekit.data.sequences import encode, read_sequences

        shares = {code: np.asarray(row, np.float32) for code, row in self.letters.items()}
        return [encode(text, shares, where) for where, text in read_sequences(path)]

    def prepared(self, image: Image) -> tuple[Tensor, tuple[int, ...]]:
        """(C, *S) uint8 or float32 in the network's frame, and the D sizes before.

        Arrays and tensors are taken to have the spacing that the model was trained with.

        Raises:
            ValueError: The number of axes or of channels is another than the model's.
            TypeError: The type is one that the model was not trained with.
        """
        if isinstance(image, str | Path):
            image = self.read(Path(image))
        given: Any = image
        spacing = getattr(given, "spacing", None)
        tensor = self._channels_first(getattr(given, "image", given))
        size = tuple(tensor.shape[1:])
        if self.intensity is None and (spacing is None or self.spacing is None):
            return tensor, size
        array = tensor.movedim(0, -1).cpu().numpy()
        return torch.from_numpy(self._framed(array, spacing)).movedim(-1, 0), size

    def _framed(self, array: NDArray[Any], spacing: tuple[float, ...] | None) -> NDArray[Any]:
        """(*S, C) by the function that the data set reads with."""
        if spacing is None:
            from densekit.data.intensity import scale

            return scale(array, self.intensity)
        from densekit.data.resample import network_frame

        return network_frame(array, spacing, self.intensity, self.spacing)

    def _channels_first(self, image: NDArray[Any] | Tensor) -> Tensor:
        if isinstance(image, np.ndarray):
            array = image[..., None] if image.ndim == self.dims else image
            array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch's only order
            tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))
        else:
            tensor = image
        if tensor.ndim != self.dims + 1 or tensor.shape[0] != self.channels:
            axes = AXES[self.dims]
            raise ValueError(
                f"image: found shape {tuple(tensor.shape)}, accepted are ({self.channels}, {axes}) "
                f"tensors and ({axes}, {self.channels}) arrays"
            )
        if tensor.dtype == torch.uint8 or tensor.is_floating_point():
            return tensor
        if self.dtype == "float32":  # stored values of any depth, unscaled
            return tensor.float()
        raise TypeError(f"image: found {tensor.dtype}, accepted are uint8 and floats")
