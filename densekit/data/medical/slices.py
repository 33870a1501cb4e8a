"""Volumes as pictures: slices along one axis, with their neighbours as channels (2.5-D).

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
    """Each slice of each volume as an image with a mask.

    A slice is read through the volumes' `cache`; without one, every slice decodes its volume again.

    Args:
        volumes: Where slices come from; the axis itself must not be resampled.
        axis: 0 (z), 1 (y) or 2 (x) of the volume in its declared orientation, which is sliced.
        neighbours: Slices on each side that become channels; beyond the end the last is repeated.
        foreground_only: Whether slices without any class but background are left out (training).
            All masks are read once to know.

    Raises:
        ValueError: For an axis that is not there or is resampled, or if no slice is left.
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
            raise ValueError(f"VolumeSlices.axis: 0 (z), 1 (y) or 2 (x), found {axis}")
        if neighbours < 0:
            raise ValueError(f"VolumeSlices.neighbours: 0 or more, found {neighbours}")
        if volumes.spacing is not None and volumes.spacing[axis] is not None:
            raise ValueError(
                f"MedicalVolumes.spacing: {list(volumes.spacing)} resamples axis {axis}, which is"
                " sliced: set it to null, so that each slice keeps its own truth"
            )
        self.volumes, self.axis, self.neighbours = volumes, axis, neighbours
        counts = volumes.sizes[:, axis].tolist()
        self._places = [(v, i) for v, count in enumerate(counts) for i in range(count)]
        if foreground_only:
            kept = [self._with_foreground(v) for v in range(len(volumes))]
            self._places = [(v, i) for v, i in self._places if kept[v][i]]
        if not self._places:
            raise ValueError("VolumeSlices: no slice has any class but background")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def sizes(self) -> NDArray[Any]:
        """(N, 2) height and width of every slice, not resampled."""
        sides = np.delete(self.volumes.sizes, self.axis, axis=1)
        of_slices: NDArray[Any] = sides[self.volume_of]
        return of_slices

    @property
    def volume_of(self) -> NDArray[Any]:
        """(N,) number of the volume that each slice is of."""
        return np.asarray([volume for volume, _ in self._places])

    def stored_masks(self) -> StoredMasks:
        """The masks of the volumes as stored."""
        return StoredMasks(self.volumes.stored_mask, self.volume_of)

    def describe(self) -> dict[str, Any]:
        """The volumes' description, of pictures and with `slices`."""
        return self.volumes.describe() | {
            "channels": self.volumes.channels * (2 * self.neighbours + 1),
            "spatial_dims": 2,
            "slices": {"axis": self.axis, "neighbours": self.neighbours},
        }

    def path(self, index: int) -> Path:
        """The file of the volume that a slice is of."""
        return self.volumes.path(self._places[index][0])

    def __getitem__(self, index: int) -> Sample:
        """One slice; `truth` is that of the slice before it was resampled."""
        volume, place = self._places[index]
        arrays = self.volumes.arrays(volume)
        height, width = self.sizes[index].tolist()
        size = (height, width)
        image_id = index
        return Sample(
            image=slice_stack(arrays["image"], self.axis, place, self.neighbours),
            mask=self._plane(arrays["mask"], place),
            index=index,
            meta=Meta(path=f"{self.path(index)}#{place}", image_id=image_id, original_size=size),
            truth=Truth(
                image_id=image_id,
                size=size,
                mask=self._plane(arrays["truth"], place),
                spacing=_without(self.volumes.voxel(volume), self.axis),
            ),
        )

    def _plane(self, mask: NDArray[Any], place: int) -> NDArray[Any]:
        return np.ascontiguousarray(mask.take(place, axis=self.axis - 3))

    def _with_foreground(self, volume: int) -> NDArray[Any]:
        """(N,) bool: slices with a class that is not background."""
        truth = self.volumes.arrays(volume)["truth"]
        classes = (truth > 0) & (truth < 255)
        kept = np.moveaxis(classes, self.axis - 3, 0)
        per_slice: NDArray[Any] = np.any(kept.reshape(len(kept), -1), axis=1)
        return per_slice


def slice_stack(image: NDArray[Any], axis: int, place: int, neighbours: int) -> NDArray[Any]:
    """One slice with its neighbours, the lowest first: the same for training and prediction.

    Args:
        image: (z, y, x, C).
        axis: The one that is sliced.
        place: Number of the slice.
        neighbours: On each side.

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
