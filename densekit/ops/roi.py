"""RoIAlign over a whole pyramid as one weighted gather.

He et al., "Mask R-CNN", 2017, section 3, with the level rule of Lin et al., "Feature Pyramid
Networks", 2017, equation 1. A bin is the mean of its samples, a sample the bilinear interpolation
of four cells: with s x s samples a bin is a weighted sum of 4 s^2 rows of a table that holds every
cell of every level. `weighted_gather` computes this, forward and backward, in parallel and without
the (R, C, ...) intermediates; torchvision's CPU kernel runs its backward on one thread.

Shape letters: B images, C channels, M cells of all levels and images, R RoIs, L levels, o output
size, s samples per bin and axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.ops.boxes import box_area
from densekit.ops.portable import portable
from densekit.ops.weighted_gather import weighted_gather


@dataclass(frozen=True)
class PyramidTable:
    """The cells of several levels as rows of one table, ordered by level, image, row, column.

    Attributes:
        rows: (M, C).
        grids: Height and width of each level in cells.
        batch: Number of images.
    """

    rows: Tensor
    grids: tuple[tuple[int, int], ...]
    batch: int

    def starts(self) -> list[int]:
        """Returns the first row of each level."""
        starts = [0]
        for height, width in self.grids[:-1]:
            starts.append(starts[-1] + self.batch * height * width)
        return starts


def pyramid_table(levels: Sequence[Tensor]) -> PyramidTable:
    """Arranges levels (B, C, h, w) as one table; a single copy if they are channels_last."""
    rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])
    grids = tuple((level.shape[2], level.shape[3]) for level in levels)
    return PyramidTable(rows, grids, levels[0].shape[0])


def assign_levels(
    boxes: Tensor, lowest: int, highest: int, canonical_size: float = 224, canonical_level: int = 4
) -> Tensor:
    """Assigns boxes to levels by size (FPN, equation 1): (...) int64, counted from `lowest`.

    Args:
        boxes: (..., 4).
        lowest: Number of the first pooled level, 2 for p2.
        highest: Number of the last pooled level.
        canonical_size: Side of a box that is assigned to `canonical_level`.
        canonical_level: Level of a box of `canonical_size`.
    """
    side = torch.sqrt(box_area(boxes))
    level = torch.floor(canonical_level + torch.log2(side / canonical_size) + 1e-6)
    return torch.clamp(torch.nan_to_num(level, nan=lowest), lowest, highest).long() - lowest


def _axis_samples(
    start: Tensor, length: Tensor, cells: Tensor, output: int, samples: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lower cell, upper cell and their weights for each sample along one axis: 4 x (R, o, s).

    Like torchvision's kernel: samples more than one cell outside count as zero, those in the last
    cell read only that cell.
    """
    step = (torch.arange(output * samples, device=start.device, dtype=start.dtype) + 0.5) / samples
    bin_size = length / output
    position = start[:, None] + step * bin_size[:, None]  # (R, o * s)
    cells = cells[:, None]
    inside = (position >= -1) & (position <= cells)
    position = position.clamp(min=0)
    last = cells - 1
    # a NaN box gives NaN through its weights, but its cell index must still be valid
    low = position.nan_to_num().floor().minimum(last)
    high = (low + 1).minimum(last)
    fraction = torch.where(low >= last, torch.zeros_like(position), position - low)
    weight = inside.to(position.dtype) / samples
    shape = (-1, output, samples)
    return (
        low.long().view(shape),
        high.long().view(shape),
        ((1 - fraction) * weight).view(shape),
        (fraction * weight).view(shape),
    )


def roi_bags(
    table: PyramidTable,
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    strides: Sequence[tuple[int, int]],
    output: int,
    samples: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Returns the rows of the table that each bin reads, and their weights.

    Args:
        table: Table of the levels; only its shapes are used.
        boxes: (R, 4) in pixels, float32.
        image: (R,) int64.
        level: (R,) int64, index into the table's levels.
        strides: Vertical and horizontal stride of each level.
        output: Bins per axis.
        samples: Samples per bin and axis.
        aligned: Whether to shift by half a cell (detectron2), or not and use sides of at least one
            cell (torchvision).

    Returns:
        Rows (R * o * o, 4 s^2) int64 and weights of the same shape.
    """
    grids = boxes.new_tensor(table.grids)[level]  # (R, 2)
    stride = boxes.new_tensor([tuple(s) for s in strides])[level]
    base = torch.tensor(table.starts(), device=boxes.device)[level]
    offset = 0.5 if aligned else 0.0
    scale = 1.0 / stride
    start = boxes[:, :2] * scale.flip(1) - offset  # x, y
    length = boxes[:, 2:] * scale.flip(1) - offset - start
    if not aligned:
        length = length.clamp(min=1.0)
    x_low, x_high, wx_low, wx_high = _axis_samples(
        start[:, 0], length[:, 0], grids[:, 1], output, samples
    )
    y_low, y_high, wy_low, wy_high = _axis_samples(
        start[:, 1], length[:, 1], grids[:, 0], output, samples
    )
    x = torch.cat([x_low, x_high], 2)  # (R, o, 2s)
    y = torch.cat([y_low, y_high], 2)
    wx = torch.cat([wx_low, wx_high], 2)
    wy = torch.cat([wy_low, wy_high], 2)
    height, width = grids.long().unbind(1)
    first = base + image * height * width  # (R,)
    y = first[:, None, None] + y * width[:, None, None]
    rows = y[:, :, None, :, None] + x[:, None, :, None, :]  # (R, o, o, 2s, 2s)
    weights = wy[:, :, None, :, None] * wx[:, None, :, None, :]
    return rows.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)


def image_of_boxes(boxes: Tensor) -> Tensor:
    """Returns the image (B * R,) int64 of each row of `boxes` (B, R, 4), flattened."""
    image = torch.arange(boxes.shape[0], device=boxes.device)
    return image[:, None].expand(boxes.shape[:2]).flatten()


def roi_align_pyramid(
    table: PyramidTable,
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    strides: Sequence[tuple[int, int]],
    output: int = 7,
    samples: int = 2,
    aligned: bool = False,
) -> Tensor:
    """Pools boxes from their assigned levels.

    Args:
        table: Table of the levels.
        boxes: (R, 4) in pixels, of all images.
        image: (R,) int64, see `image_of_boxes`.
        level: (R,) int64, see `assign_levels`.
        strides: Vertical and horizontal stride of each level.
        output: Bins per axis, o.
        samples: Samples per bin and axis, at least 1.
        aligned: See `roi_bags`.

    Returns:
        (R, o, o, C) in the dtype of the table. In bfloat16 the sums, and those of gradients,
        are rounded to bfloat16.
    """
    with torch.no_grad():
        precise = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
        rows, weights = roi_bags(table, precise, image, level, strides, output, samples, aligned)
        weights = weights.to(table.rows.dtype)
        if rows.device.type == "cpu" and not portable():
            rows = rows.int()  # half the index traffic; export needs int64
    pooled = weighted_gather(table.rows, rows, weights)
    return pooled.view(-1, output, output, table.rows.shape[1])


def roi_align_by_level(
    levels: Sequence[Tensor],
    boxes: Tensor,
    image: Tensor,
    level: Tensor,
    strides: Sequence[tuple[int, int]],
    output: int = 7,
    samples: int = 0,
    aligned: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pools boxes from their assigned levels with torchvision's kernel, level by level.

    It also takes ceil(side / output) samples per bin and axis (detectron2, `sampling_ratio=0`), a
    number that depends on the data, and is what ONNX has an operator for.

    Args:
        levels: (B, C, h, w) each.
        boxes: (R, 4).
        image: (R,) int64.
        level: (R,) int64.
        strides: Vertical and horizontal stride of each level.
        output: Bins per axis, o.
        samples: Samples per bin and axis; 0 for ceil(side / output).
        aligned: See `roi_bags`.

    Returns:
        The pooled boxes, those of the first level first, (R, o, o, C); and the row of each box
        among them, (R,) int64.
    """
    from torchvision.ops import roi_align  # with its formula for tracing, unlike the kernel alone

    exact = torch.promote_types(levels[0].dtype, torch.float32)
    boxes = boxes.to(exact)
    pooled = []
    for number, (features, (stride_y, stride_x)) in enumerate(zip(levels, strides, strict=True)):
        rows = (level == number).nonzero()[:, 0]
        cells = boxes[rows] / boxes.new_tensor([stride_x, stride_y, stride_x, stride_y])
        rois = torch.cat([image[rows, None].to(exact), cells], 1)
        pooled.append(roi_align(features.to(exact), rois, output, 1.0, samples, aligned))
    place = _inverse(level.sort(stable=True).indices)
    return torch.cat(pooled).permute(0, 2, 3, 1).to(levels[0].dtype), place


def _inverse(order: Tensor) -> Tensor:
    """Returns the position of each row in `order` (R,), a permutation."""
    return torch.empty_like(order).scatter(0, order, torch.arange(order.shape[0]).to(order.device))
