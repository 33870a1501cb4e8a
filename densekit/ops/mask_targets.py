"""What the bins of a region should say of its object's mask.

He et al., "Mask R-CNN", 2017, section 3.1: the target is the part of the object's mask that lies in
the region, resampled to m x m bins.

Shape letters: R regions, M side of a mask's frame, m bins per axis, H and W sides of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densekit.types import IGNORE_INDEX

SMALLEST = 1e-6
"""Lower bound of sides: empty slots have boxes without an area."""


def targets_from_frames(
    masks: Tensor, own: Tensor, regions: Tensor, bins: int
) -> tuple[Tensor, Tensor]:
    """Averages masks in the frames of their own boxes over the bins of regions.

    A bin is the mean of the mask over its area, zero beyond the object's box. The two axes of a box
    are independent, so this is a product of matrices: the share of each bin's height that lies in
    each row of the mask, the mask, and likewise for the columns.

    Args:
        masks: (R, M, M) uint8: 0, 1 or 255 where it is not known; see `Batch.object_masks`.
        own: (R, 4), the boxes of the objects.
        regions: (R, 4).
        bins: m.

    Returns:
        The targets (R, m, m) of 0 to 1, float32, and where all of a bin is known, (R, m, m) bool.
    """
    own, regions = own.float(), regions.float()
    cells = masks.shape[-1]
    with torch.autocast(masks.device.type, enabled=False):
        columns = _shares(own[:, 0::2], regions[:, 0::2], cells, bins)  # (R, m, M)
        rows = _shares(own[:, 1::2], regions[:, 1::2], cells, bins)
        found = [
            torch.bmm(torch.bmm(rows, part.float()), columns.mT)
            for part in (masks == 1, masks == IGNORE_INDEX)
        ]
    return found[0].clamp(max=1), found[1] == 0


def _shares(own: Tensor, regions: Tensor, cells: int, bins: int) -> Tensor:
    """Share of each bin that lies in each cell of the frame, along one axis: (R, m, M).

    Args:
        own: (R, 2), near and far side of the object's box.
        regions: (R, 2), those of the regions.
        cells: M.
        bins: m.
    """
    length = (own[:, 1:] - own[:, :1]).clamp(min=SMALLEST)
    step = torch.arange(bins + 1, device=own.device, dtype=own.dtype) / bins
    edges = regions[:, :1] + step * (regions[:, 1:] - regions[:, :1])  # (R, m + 1)
    edges = (edges - own[:, :1]) / length * cells
    below = (edges[..., None] - torch.arange(cells, device=own.device)).clamp(0, 1)
    size = (edges[:, 1:] - edges[:, :-1]).clamp(min=SMALLEST)
    return below.diff(dim=1) / size[..., None]


def targets_from_planes(
    masks: Tensor, row: Tensor, regions: Tensor, bins: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Pools masks as planes of the image with RoIAlign, as the references do.

    Args:
        masks: (N, H, W) uint8: 0, 1 or 255 where it is not known.
        row: (R,) int64, the mask of each region.
        regions: (R, 4).
        bins: m.
        aligned: Whether a pixel's value stands at its centre (detectron2) or at its corner
            (torchvision).

    Returns:
        As `targets_from_frames`, in at least float32.
    """
    from torchvision.ops import roi_align

    exact = regions.to(torch.promote_types(regions.dtype, torch.float32))
    rois = torch.cat([row[:, None].to(exact.dtype), exact], 1)
    found = [
        roi_align(part[:, None].to(exact.dtype), rois, bins, aligned=aligned)[:, 0]
        for part in (masks == 1, masks == IGNORE_INDEX)
    ]
    return found[0], found[1] == 0
