"""Predicts volumes that do not fit into memory, slab by slab, with a sliding window.

z, y, x the stored axes of a volume, slowest first; C its channels, K classes, S the sizes of the
volume in the network's orientation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import turned_sides, turned_view
from densekit.data.medical.grids import Grid, Volume
from densekit.data.medical.nifti import slabs_of
from densekit.data.medical.resample import resampled_size
from densekit.data.medical.volume_files import NIFTI, has_suffix
from densekit.data.medical.volumes import array_on_disk, read_channels_grid, stored_on_disk
from densekit.data.reading.intensity import fitted, rules_of
from densekit.inference.inferer import LOGITS
from densekit.inference.predictor import Predictor
from densekit.inference.restore import HALF, restore_mask
from densekit.inference.sliding_window import Place, SlidingWindow
from densekit.types import Result


def why_whole(predictor: Predictor, paths: Sequence[Path]) -> str | None:
    """Returns why a volume must be in memory as a whole, None if it can be streamed.

    Args:
        predictor: Of a model of volumes.
        paths: The channels of one patient.

    Raises:
        ValueError: The volume cannot be read, or is not one for this model.
    """
    if type(predictor.inferer) is not SlidingWindow:
        return f"inferer {type(predictor.inferer).__name__}"
    if not all(has_suffix(path, NIFTI) for path in paths):
        return "a format other than NIfTI"
    turned, framed = _turned_and_framed(predictor, read_channels_grid(paths))
    return None if turned == framed else "resampling to another spacing"


@torch.inference_mode()
def predict_volume(
    predictor: Predictor, paths: Sequence[Path], folder: Path
) -> tuple[Volume, dict[str, Result]]:
    """Predicts a volume of any size; its result equals that of the predictor.

    Memory holds the sums of logits for one row of windows along the first axis of the network's
    orientation, and a few million voxels. Everything else is in files of the folder: 4 bytes per
    voxel and channel, and one per voxel of each mask.

    Args:
        predictor: Of a model of volumes whose inferer is a `SlidingWindow`.
        paths: NIfTI files, the channels of one patient; compressed ones are read once, in order.
        folder: An existing folder for files that the result refers to.

    Returns:
        The volume, and what `Predictor` returns, its masks; their arrays are in the files.

    Raises:
        ValueError: The volume is damaged, not one for this model, or cannot be streamed.
        OSError: The disk is full.
    """
    if reason := why_whole(predictor, paths):
        raise ValueError(f"{paths[0]}: expected a volume that can be streamed, got {reason}")
    grid = read_channels_grid(paths)
    axes = predictor.frames.axes_of(grid)
    stored = stored_on_disk(paths, grid, folder / "stored")  # (C, z, y, x)
    image = turned_view(stored, axes, first=1)  # (C, *S)
    rules = rules_of(predictor.frames.intensity, grid.channels)
    scales = [
        fitted(partial(_slabs, channel), rule) for channel, rule in zip(stored, rules, strict=True)
    ]

    def read(place: Place) -> Tensor:
        parts = [scale(one[place]) for scale, one in zip(scales, image, strict=True)]
        return torch.from_numpy(np.stack(parts)).to(predictor.device)

    results: dict[str, Result] = {}
    for rows, logits in predictor.inferer.slabs(predictor.model, image.shape[1:], read):
        for head, ((key, values),) in ((head, one.items()) for head, one in logits.items()):
            at = predictor.model.thresholds.get(head, HALF)
            part = restore_mask(values, tuple(values.shape[1:]), key != LOGITS[0], at)
            if head not in results:
                shape = (*part.shape[:-3], *grid.shape)
                results[head] = {"mask": array_on_disk(folder / f"{head}.mask", np.uint8, shape)}
            mask = results[head]["mask"]  # (z, y, x), or (K, z, y, x)
            turned_view(mask, axes, first=mask.ndim - 3)[..., rows, :, :] = part
    for head, result in results.items():
        if names := predictor.names.get(head):
            result["names"] = names
    return Volume(image=np.moveaxis(stored, 0, -1), **vars(grid)), results


def bytes_in_memory(predictor: Predictor, grid: Grid) -> int:
    """About as many bytes as a prediction in memory takes at its peak, from headers alone."""
    voxels, framed = (math.prod(shape) for shape in _turned_and_framed(predictor, grid))
    heads = predictor.model.info.get("heads", {}).values()
    classes = sum(max(1, int(head.get("num_classes", 1))) for head in heads)
    return 4 * (3 * grid.channels * voxels + (2 * grid.channels + classes) * framed)


def _turned_and_framed(predictor: Predictor, grid: Grid) -> tuple[tuple[int, ...], ...]:
    """The sizes in the network's orientation, as stored and at the network's spacing."""
    axes = predictor.frames.axes_of(grid)
    shape, spacing = (turned_sides(of, axes) for of in (grid.shape, grid.spacing))
    return shape, resampled_size(shape, spacing, predictor.frames.spacing)


def _slabs(channel: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for rows in slabs_of(channel.shape):
        yield channel[rows]
