"""Box arithmetic on xyxy boxes in absolute pixels.

Shape letters: ... any leading dimensions, N and M boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Cap of predicted log sizes, so that exp() cannot overflow (Detectron's value)."""
MAX_LOG_STRIDES = math.log(10_000.0)
"""The same for sizes that are predicted in strides, which are smaller than anchors."""
SMALLEST_SCALE = 1e-8
"""Keeps the logarithm of an empty box's size finite."""

DeltaWeights = tuple[float, float, float, float]


def exact(boxes: Tensor) -> Tensor:
    """Casts boxes to a dtype that holds their areas: float16 overflows at 256 x 256 pixels."""
    wide = torch.float32 if boxes.is_floating_point() else torch.int64
    return boxes.to(torch.promote_types(boxes.dtype, wide))


def box_area(boxes: Tensor) -> Tensor:
    """Returns areas (..., N) of boxes (..., N, 4), in at least float32, or in int64."""
    boxes = exact(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Returns areas of overlap (..., N, M) of boxes (..., N, 4) and (..., M, 4)."""
    ax1, ay1, ax2, ay2 = exact(a)[..., :, None, :].unbind(-1)
    bx1, by1, bx2, by2 = exact(b)[..., None, :, :].unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp_(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp_(min=0)
    return width.mul_(height)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU (..., N, M); of two empty boxes it is NaN, as in torchvision."""
    inter = intersection(a, b)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - inter
    return inter / union


def clip_boxes(boxes: Tensor, size: Tensor) -> Tensor:
    """Clips boxes (B, ..., 4) to images of `size` (B, 2), height and width."""
    height, width = size.to(boxes.dtype).unbind(-1)
    limit = torch.stack([width, height, width, height], -1)
    limit = limit.view(-1, *[1] * (boxes.ndim - 2), 4)
    return torch.minimum(boxes.clamp(min=0), limit)


def at_least(boxes: Tensor, side: float) -> Tensor:
    """Returns whether boxes (..., 4) have an area and sides of at least `side` pixels, (...)."""
    shorter = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
    return (shorter >= side) & (shorter > 0)


def encode_boxes(gt: Tensor, anchors: Tensor, weights: DeltaWeights = (1, 1, 1, 1)) -> Tensor:
    """Computes regression targets of R-CNN (Girshick et al. 2014, appendix C) times `weights`.

    Args:
        gt: (..., 4) target boxes.
        anchors: (..., 4) reference boxes, with sides above 0.
        weights: Factors of dx, dy, dw, dh.

    Returns:
        dx, dy, dw, dh: (..., 4).
    """
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    anchor_centre = anchors[..., :2] + 0.5 * anchor_size
    gt_size = gt[..., 2:] - gt[..., :2]
    gt_centre = gt[..., :2] + 0.5 * gt_size
    shift = (gt_centre - anchor_centre) / anchor_size
    scale = torch.log(gt_size / anchor_size)
    return torch.cat([shift, scale], -1) * shift.new_tensor(weights)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: DeltaWeights = (1, 1, 1, 1)) -> Tensor:
    """Inverts `encode_boxes`, in at least float32 whatever the dtype of the network.

    Args:
        deltas: (..., 4) predictions, already multiplied by `weights`.
        anchors: (..., 4) reference boxes.
        weights: Factors of dx, dy, dw, dh.
    """
    dtype = torch.promote_types(deltas.dtype, torch.float32)
    dx, dy, dw, dh = (d / w for d, w in zip(deltas.to(dtype).unbind(-1), weights, strict=True))
    x1, y1, x2, y2 = anchors.to(dtype).unbind(-1)
    width, height = x2 - x1, y2 - y1
    centre_x = dx * width + (x1 + 0.5 * width)
    centre_y = dy * height + (y1 + 0.5 * height)
    half_width = 0.5 * (torch.exp(dw.clamp(max=MAX_LOG_SCALE)) * width)
    half_height = 0.5 * (torch.exp(dh.clamp(max=MAX_LOG_SCALE)) * height)
    return torch.stack(
        [
            centre_x - half_width,
            centre_y - half_height,
            centre_x + half_width,
            centre_y + half_height,
        ],
        -1,
    )


def encode_sides(gt: Tensor, anchors: Tensor) -> Tensor:
    """Returns the distances from the centre of each anchor to the sides of its target.

    Tian et al., "FCOS", 2019, equation 1; here in multiples of the anchor's sides.

    Args:
        gt: (..., 4) target boxes.
        anchors: (..., 4) reference boxes, with sides above 0.

    Returns:
        Left, top, right, bottom: (..., 4), negative where a centre lies outside its target.
    """
    size = anchors[..., 2:] - anchors[..., :2]
    centre = 0.5 * (anchors[..., :2] + anchors[..., 2:])
    return torch.cat([(centre - gt[..., :2]) / size, (gt[..., 2:] - centre) / size], -1)


def decode_sides(distances: Tensor, anchors: Tensor) -> Tensor:
    """Inverts `encode_sides`, in at least float32 whatever the dtype of the network.

    Args:
        distances: (..., 4) predictions.
        anchors: (..., 4) reference boxes.
    """
    dtype = torch.promote_types(distances.dtype, torch.float32)
    distances, anchors = distances.to(dtype), anchors.to(dtype)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = 0.5 * (anchors[..., :2] + anchors[..., 2:])
    return torch.cat([centre - distances[..., :2] * size, centre + distances[..., 2:] * size], -1)


def encode_in_cells(gt: Tensor, cells: Tensor) -> Tensor:
    """Returns the targets of boxes that cells predict (Ge et al., "YOLOX", 2021, section 2.1).

    Args:
        gt: (..., 4) target boxes.
        cells: (..., 4) squares of one stride, with sides above 0.

    Returns:
        The centre from the near corner of the cell, and the logarithms of width and height, in
        multiples of the cell's sides: (..., 4).
    """
    size = cells[..., 2:] - cells[..., :2]
    centre = 0.5 * (gt[..., :2] + gt[..., 2:])
    scale = torch.log((gt[..., 2:] - gt[..., :2]) / size + SMALLEST_SCALE)
    return torch.cat([(centre - cells[..., :2]) / size, scale], -1)


def decode_in_cells(deltas: Tensor, cells: Tensor) -> Tensor:
    """Inverts `encode_in_cells`, in at least float32 whatever the dtype of the network.

    Args:
        deltas: (..., 4) predictions.
        cells: (..., 4) squares of one stride.
    """
    dtype = torch.promote_types(deltas.dtype, torch.float32)
    deltas, cells = deltas.to(dtype), cells.to(dtype)
    size = cells[..., 2:] - cells[..., :2]
    centre = cells[..., :2] + deltas[..., :2] * size
    half = 0.5 * (torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_STRIDES)) * size)
    return torch.cat([centre - half, centre + half], -1)


def centerness(gt: Tensor, anchors: Tensor) -> Tensor:
    """Returns how central the anchors lie in their targets (FCOS, equation 3), (...), 0 to 1.

    Args:
        gt: (..., 4) target boxes, which hold the centres of the anchors.
        anchors: (..., 4).
    """
    sides = encode_sides(gt, anchors).unflatten(-1, (2, 2))  # (..., 2, 2): near and far, by axis
    ratio: Tensor = sides.amin(-2) / sides.amax(-2)  # (..., 2)
    return ratio.prod(-1).sqrt()
