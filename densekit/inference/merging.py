"""Detections of several views of the same images as one: suppressed together.

Shape letters: B images, D detections, m bins per side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densekit.ops.nms import nms_keep
from densekit.types import Predictions

OF_OBJECTS = ("boxes", "scores", "labels", "valid", "masks")


def seen_back(
    found: Predictions, sizes: Tensor, original: Tensor, flip: Sequence[int]
) -> Predictions:
    """Detections in mirrored and scaled images, as they lie in the originals.

    Args:
        found: boxes (B, D, 4) and perhaps masks (B, D, m, m), in the frame of the views.
        sizes: (B, 2) height and width of the views.
        original: (B, 2) of the images.
        flip: The spatial axes along which the views are mirrored.
    """
    boxes, axes = found["boxes"], [axis % 2 for axis in flip]
    for axis in axes:
        x = 1 - axis  # boxes are x, y
        side = sizes[:, None, axis].to(boxes)
        low, high = side - boxes[..., 2 + x], side - boxes[..., x]
        boxes = boxes.clone()
        boxes[..., x], boxes[..., 2 + x] = low, high
    factor = (original / sizes).to(boxes).flip(1).repeat(1, 2)  # (B, 4)
    back = {**found, "boxes": boxes * factor[:, None]}
    if "masks" in found and axes:
        back["masks"] = found["masks"].flip([axis - 2 for axis in axes])
    return back


def merged(views: Sequence[Predictions], nms_iou: float, max_detections: int) -> Predictions:
    """The best detections of all views, each with its own mask.

    Args:
        views: Of the same B images, in their frame.
        nms_iou: Detections of one class with a larger IoU are suppressed.
        max_detections: Most detections per image.
    """
    joined = {
        key: torch.cat([view[key] for view in views], dim=1)
        for key in OF_OBJECTS
        if key in views[0]
    }
    of_images = {key: value for key, value in views[0].items() if key not in joined}
    for key in of_images:  # `overflow`: whether any view had too many
        of_images[key] = torch.stack([view[key] for view in views]).any(dim=0)
    scores = joined["scores"].masked_fill(~joined["valid"], -torch.inf)
    joined = _rows(joined, scores.argsort(dim=1, descending=True, stable=True))
    joined["valid"] = nms_keep(joined["boxes"], joined["valid"], nms_iou, joined["labels"])
    order = joined["valid"].int().argsort(dim=1, descending=True, stable=True)
    return {**_rows(joined, order[:, :max_detections]), **of_images}


def _rows(found: Predictions, chosen: Tensor) -> Predictions:
    """The chosen detections (B, D) of each image."""
    images = torch.arange(len(chosen), device=chosen.device)[:, None]
    return {key: value[images, chosen] for key, value in found.items()}
