"""Slices of volumes as images, with their neighbours as channels (2.5-D).

N slices of a volume, H and W the two other axes, C channels of the volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.medical.dataset import MedicalVolumes
from densekit.data.protocols import Dataset, StoredMasks
from densekit.types import Meta, Sample, Truth


class VolumeSlices(Dataset):
    """A data set of the slices of volumes along one axis.

    Slices are read through the volumes' `cache`; without one, every slice decodes its whole volume.

    Args:
        volumes: The volumes; the sliced axis must not be resampled.
        axis: The sliced axis in the declared orientation: 0 (z), 1 (y) or 2 (x).
        neighbours: Number of slices on each side that become channels; the outermost slice is
            repeated beyond the end.
        foreground_only: Whether to leave out slices of background only (for training). All masks
            are read once to find them.

    Raises:
        ValueError: If the axis does not exist or is resampled, or no slice is left.
    """

    def __init__(
        self,
        volumes: MedicalVolumes,
        axis: int = 0,
        neighbours: int = 0,
        *,
        foreground_only: bool = False,
    ) -> None:
        if axis not in (0, 1, 2):
            raise ValueError(f"VolumeSlices.axis: expected 0 (z), 1 (y) or 2 (x), got {axis}")
        if neighbours < 0:
            raise ValueError(f"VolumeSlices.neighbours: expected at least 0, got {neighbours}")
        if volumes.spacing is not None and volumes.spacing[axis] is not None:
            raise ValueError(
                f"MedicalVolumes.spacing: expected null for axis {axis}, which is sliced, got"
                f" {list(volumes.spacing)}; each slice must keep its own truth"
            )
        self.volumes, self.axis, self.neighbours = volumes, axis, neighbours
        counts = volumes.sizes[:, axis].tolist()
        self._slices = [(v, i) for v, count in enumerate(counts) for i in range(count)]
        if foreground_only:
            kept = [self._with_foreground(v) for v in range(len(volumes))]
            self._slices = [(v, i) for v, i in self._slices if kept[v][i]]
        if not self._slices:
            raise ValueError("VolumeSlices: expected slices with foreground, got none")

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every slice, not resampled."""
        sides = np.delete(self.volumes.sizes, self.axis, axis=1)
        of_slices: NDArray[Any] = sides[self.volume_of]
        return of_slices

    @property
    def volume_of(self) -> NDArray[Any]:
        """(N,) number of the volume of each slice."""
        return np.asarray([volume for volume, _ in self._slices])

    def stored_masks(self) -> StoredMasks:
        """The stored masks of the volumes."""
        return StoredMasks(self.volumes.stored_mask, self.volume_of)

    def describe(self) -> dict[str, Any]:
        """The description of the volumes, changed to that of 2-D images, with `slices`."""
        return self.volumes.describe() | {
            "channels": self.volumes.channels * (2 * self.neighbours + 1),
            "spatial_dims": 2,
            "slices": {"axis": self.axis, "neighbours": self.neighbours},
        }

    def path(self, index: int) -> Path:
        """The file of the volume of a slice."""
        return self.volumes.path(self._slices[index][0])

    def __getitem__(self, index: int) -> Sample:
        """One slice; its `truth` is not resampled."""
        volume, number = self._slices[index]
        arrays = self.volumes.arrays(volume)
        height, width = self.sizes[index].tolist()
        size = (height, width)
        image_id = index
        return Sample(
            image=slice_stack(arrays["image"], self.axis, number, self.neighbours),
            mask=self._plane(arrays["mask"], number),
            index=index,
            meta=Meta(path=f"{self.path(index)}#{number}", image_id=image_id, original_size=size),
            truth=Truth(
                image_id=image_id,
                size=size,
                mask=self._plane(arrays["truth"], number),
                spacing=_without(self.volumes.voxel(volume), self.axis),
            ),
        )

    def _plane(self, mask: NDArray[Any], number: int) -> NDArray[Any]:
        return np.ascontiguousarray(mask.take(number, axis=self.axis - 3))

    def _with_foreground(self, volume: int) -> NDArray[Any]:
        """(N,) bool, which slices of a volume have foreground."""
        truth = self.volumes.arrays(volume)["truth"]
        classes = (truth > 0) & (truth < 255)
        kept = np.moveaxis(classes, self.axis - 3, 0)
        per_slice: NDArray[Any] = np.any(kept.reshape(len(kept), -1), axis=1)
        return per_slice


def slice_stack(image: NDArray[Any], axis: int, place: int, neighbours: int) -> NDArray[Any]:
    """A slice with its neighbours as channels, lowest first; also used in prediction.

    Args:
        image: (z, y, x, C).
        axis: The sliced axis.
        place: Number of the slice.
        neighbours: Number of neighbours on each side.

    Returns:
        (H, W, C * (2 * neighbours + 1)).
    """
    wanted = np.arange(place - neighbours, place + neighbours + 1)
    wanted = np.clip(wanted, 0, image.shape[axis] - 1)
    planes = [image.take(int(i), axis=axis) for i in wanted]
    stacked: NDArray[Any] = np.concatenate(planes, axis=-1)
    return stacked


def _without(values: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return values[:axis] + values[axis + 1 :]
