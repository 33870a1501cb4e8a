"""Draws batches and results: boxes, masks and categories, predictions beside the ground truth.

Shape letters: B images, C channels, K classes, S the sides of an image along its axes, T target
slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from densekit.data.medical.axes import turned_mask
from densekit.data.object_masks import in_image
from densekit.ops.run_lengths import encode
from densekit.types import Batch, Result, chosen_objects
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.categories import (
    MOST,
    describe_category,
    describe_scores,
    draw_category,
)
from densekit.visualization.images import LARGEST, Picture, at_most
from densekit.visualization.instances import draw_objects
from densekit.visualization.masks import draw_mask, overlay, with_legend
from densekit.visualization.panels import side_by_side
from densekit.visualization.planes import plane_of


def draw_batch(
    batch: Batch, names: Sequence[str], limit: int, classes: Mapping[int, str]
) -> list[Picture]:
    """Draws masks, boxes or categories of the first images of a batch, without their padding.

    Args:
        batch: `image` (B, C, H, W); series and volumes are drawn if there is a `mask` or
            `category`, and skipped otherwise.
        names: Class names.
        limit: Number of images at most.
        classes: Mask value, or channel, to name.
    """
    rows = range(min(limit, len(batch["image"])))
    if "mask" in batch:
        return [_draw_mask_target(batch, row, classes) for row in rows]
    if "category" in batch and "boxes" not in batch:
        titles = [describe_category(batch["category"][row].cpu().numpy(), names) for row in rows]
        return [draw_category(_image(batch, row), title) for row, title in enumerate(titles)]
    if batch["image"].ndim != 4:
        return []
    return [_draw_box_targets(batch, row, names) for row in rows]


def draw_result(
    batch: Batch,
    row: int,
    result: dict[str, Result],
    names: Sequence[str],
    min_score: float,
    classes: Mapping[int, str],
) -> list[Picture]:
    """Draws the boxes, masks or categories predicted by each head beside the ground truth.

    Args:
        batch: Evaluation batch, with `truth` and `meta`.
        row: Index of the image in it.
        result: Head name to result, in the image's original frame.
        names: Class names.
        min_score: Boxes with lower scores are not drawn.
        classes: Mask value, or channel, to name.

    Returns:
        One picture per head whose kind of result (boxes, mask or category) the ground truth has.
    """
    truth = batch["truth"][row]
    drawn = [
        _draw_mask_result(batch, row, head, of_head["mask"], classes)
        for head, of_head in result.items()
        if "mask" in of_head and "mask" in truth
    ]
    drawn += [
        _draw_category_result(batch, row, head, of_head, names)
        for head, of_head in result.items()
        if "probabilities" in of_head and "category" in truth
    ]
    if batch["image"].ndim == 4 and "boxes" in truth:
        with_boxes = {head: of_head for head, of_head in result.items() if "boxes" in of_head}
        drawn += _draw_box_results(batch, row, with_boxes, names, min_score)
    return drawn


def _draw_box_targets(batch: Batch, row: int, names: Sequence[str]) -> Picture:
    image = _image(batch, row)
    if "boxes" not in batch:
        return draw_boxes(image, [], [], names)
    valid = batch["boxes_valid"][row]  # (T,)
    boxes, labels = (batch[key][row][valid].cpu().numpy() for key in ("boxes", "labels"))
    height, width = batch["size"][row].tolist()
    objects: dict[str, Any] = {"boxes": boxes, "labels": labels}
    if "object_masks" in batch:
        planes = in_image(batch["object_masks"][row][valid].cpu().numpy(), boxes, (height, width))
        objects["masks"] = [encode(plane[None] == 1)[0] for plane in planes]
    return draw_objects(image, objects, names, np.divide(image.shape[:2], (height, width)).tolist())


def _draw_box_results(
    batch: Batch, row: int, results: Mapping[str, Result], names: Sequence[str], min_score: float
) -> list[Picture]:
    image, truth = _image(batch, row), batch["truth"][row]
    # Results and truth are in the original frame, the image in that of the network.
    size = batch["meta"][row].get("original_size", batch["size"][row].tolist())
    scale = np.divide(image.shape[:2], size).tolist()
    drawn = []
    for head, result in results.items():
        annotated: dict[str, Any] = {key: truth[key] for key in ("boxes", "labels")}
        if "masks" in result and "masks" in truth:
            annotated["masks"] = truth["masks"]
        panels = [chosen_objects(result, result["scores"] >= min_score), annotated]
        pictures = [draw_objects(image, panel, names, scale) for panel in panels]
        drawn.append(side_by_side(pictures, [head, "ground truth"]))
    return drawn


def _draw_mask_target(batch: Batch, row: int, classes: Mapping[int, str]) -> Picture:
    image = _unpadded(batch["image"], batch, row).movedim(0, -1).cpu().numpy()  # (*S, C)
    mask = _unpadded(batch["mask"], batch, row).cpu().numpy()
    plane, (labels,) = plane_of(image, [mask], classes)
    return overlay(plane, labels, classes)


def _draw_mask_result(
    batch: Batch, row: int, head: str, mask: NDArray[Any], classes: Mapping[int, str]
) -> Picture:
    """Draws a predicted mask beside the true one, at the original size or smaller."""
    image = _unpadded(batch["image"], batch, row).movedim(0, -1).cpu().numpy()  # (*S, C)
    axes = batch["meta"][row].get("axes")
    masks = [turned_mask(one, axes) for one in (batch["truth"][row]["mask"], mask)]
    plane, (expected, found) = plane_of(image, masks, classes)
    panels = [draw_mask(plane, labels, classes) for labels in (found, expected)]
    return with_legend(side_by_side(panels, [head, "ground truth"]), classes)


def _draw_category_result(
    batch: Batch, row: int, head: str, result: Result, names: Sequence[str]
) -> Picture:
    found = describe_scores(result["labels"][:MOST], result["scores"][:MOST], names)
    truth = describe_category(batch["truth"][row]["category"], names)
    return draw_category(_image(batch, row), f"{head}: {found} / truth: {truth}")


def _image(batch: Batch, row: int) -> NDArray[Any]:
    """One image of a batch, (*S, C), without its padding; a 2-D one of at most `LARGEST` pixels.

    Its intensities are stretched before it is shrunk, so that it looks like the whole image.
    """
    image: NDArray[Any] = _unpadded(batch["image"], batch, row).movedim(0, -1).cpu().numpy()
    if image.ndim != 3 or max(image.shape[:2]) <= LARGEST:
        return image
    return at_most(image, LARGEST)


def _unpadded(values: Tensor, batch: Batch, row: int) -> Tensor:
    """Extracts one image's (..., *S) from (B, ..., *S), without the padding of the batch."""
    size = batch["size"][row].tolist()
    part = values[row]
    for axis, length in enumerate(size, -len(size)):
        part = part.narrow(axis, 0, length)
    return part
