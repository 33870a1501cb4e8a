"""Masks of a batch and of results, drawn: pictures and series whole, volumes by one slice.

Shape letters: B images, C channels, K classes, S the sides of an image along its axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from densekit.data.medical.axes import turned_mask
from densekit.types import Batch
from densekit.visualization.images import LARGEST, Picture, to_grey, to_rgb
from densekit.visualization.masks import draw_mask, foreground_of_slices, with_legend
from densekit.visualization.panels import side_by_side
from densekit.visualization.series import draw_series, series_bands


def draw_truth_of_batch(batch: Batch, row: int, classes: Mapping[int, str]) -> Picture:
    """The image as the network gets it, under its mask.

    Args:
        batch: With `mask`.
        row: Image in it.
        classes: Mask value, or channel, to name.
    """
    image = inside(batch["image"], batch, row).movedim(0, -1).cpu().numpy()  # (*S, C)
    mask = inside(batch["mask"], batch, row).cpu().numpy()
    plane, (labels,) = plane_of(image, [mask], classes)
    return with_legend(draw_mask(plane, labels, classes), classes)


def draw_mask_result(
    batch: Batch, row: int, head: str, mask: NDArray[Any], classes: Mapping[int, str]
) -> Picture:
    """A prediction beside the truth, at the original size.

    Args:
        batch: Evaluation batch, with a `truth` that holds `mask`.
        row: Image in it.
        head: Title of the prediction.
        mask: The result's.
        classes: Mask value, or channel, to name.
    """
    image = inside(batch["image"], batch, row).movedim(0, -1).cpu().numpy()
    axes = batch["meta"][row].get("axes")
    masks = [turned_mask(one, axes) for one in (batch["truth"][row]["mask"], mask)]
    plane, (expected, found) = plane_of(image, masks, classes)
    panels = [draw_mask(plane, labels, classes) for labels in (found, expected)]
    return with_legend(side_by_side(panels, [head, "ground truth"]), classes)


def plane_of(
    image: NDArray[Any], masks: Sequence[NDArray[Any]], classes: Mapping[int, str]
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """What is drawn of an image: itself, a series as lines, the slice with most foreground.

    Args:
        image: (*S, C), perhaps in a frame of other size than the masks.
        masks: (*S) or (K, *S) in one frame; the first one chooses the slice, the middle one where
            several are equal.
        classes: What counts as foreground.

    Returns:
        (H, W, 3), and the masks of that plane in its size, `LARGEST` pixels or less.
    """
    if image.ndim == 2:
        return draw_series(image), [series_bands(mask) for mask in masks]
    if image.ndim == 3:
        return _in_one_size(image, masks)
    counts = foreground_of_slices(masks[0], classes)  # (z,)
    best = np.flatnonzero(counts == counts.max())
    place = int(best[len(best) // 2])
    own = min(len(image) - 1, int((place + 0.5) * len(image) / len(counts)))
    plane = to_grey(image[..., 0])[own]
    return _in_one_size(plane, [mask[..., place, :, :] for mask in masks])


def inside(values: Tensor, batch: Batch, row: int) -> Tensor:
    """(..., *S) of one image without its padding.

    Args:
        values: (B, ..., *S) with the batch's padding.
        batch: Its `size` is looked at.
        row: Image in it.
    """
    size = batch["size"][row].tolist()
    part = values[row]
    for axis, length in enumerate(size, -len(size)):
        part = part.narrow(axis, 0, length)
    return part


def _in_one_size(
    plane: NDArray[Any], masks: Sequence[NDArray[Any]]
) -> tuple[Picture, list[NDArray[Any]]]:
    """An image and its masks (..., H, W) in the size of the masks, or made smaller."""
    sides = masks[0].shape[-2:]
    share = LARGEST / max(*sides, LARGEST)
    height, width = (max(1, round(side * share)) for side in sides)
    # Where a mask keeps its size, every row and column is its own.
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip((height, width), sides, strict=True)
    )
    picture = to_rgb(plane)
    if picture.shape[:2] != (height, width):
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        picture = np.array(resized)
    return picture, [mask[..., rows, :][..., columns] for mask in masks]
