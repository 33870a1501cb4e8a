"""The anchors of a head and how they are labelled with the ground truth.

Shape letters: B images, A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.ops.anchors import Grids, pyramid_anchors
from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE, covered
from densekit.types import Batch, FeatureSpec


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of every cell of several levels.

    Attributes:
        strides: Vertical and horizontal stride of each level, in pixels.
        sizes: Square roots of the areas of each level's anchors, in pixels.
        aspect_ratios: Height over width.
        rounded: Whether corners are rounded to whole pixels (torchvision).
        grid_strides: Whether the stride is padded side // cells (torchvision), which differs from
            the level's where its cells were rounded up, or the level's own (detectron2).
        offset: Where in its cell the centre of an anchor lies, in strides: 0 is the corner.
    """

    strides: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[float, ...]
    rounded: bool
    grid_strides: bool
    offset: float = 0.0

    @property
    def per_cell(self) -> int:
        """Number of anchors per cell."""
        return len(self.sizes[0]) * len(self.aspect_ratios)

    def __call__(self, levels: Sequence[Tensor], padded: tuple[int, int]) -> Tensor:
        """Returns the anchors (A, 4) of all levels of an image of padded size `padded`.

        Args:
            levels: (B, C, h, w) each.
            padded: Height and width.
        """
        grids = tuple((int(level.shape[2]), int(level.shape[3])) for level in levels)
        return self._of_grids(grids, padded, levels[0].device)

    def of_image(self, padded: tuple[int, int], device: torch.device) -> list[Tensor]:
        """Returns the anchors (A_l, 4) of each level of an image of padded size `padded`."""
        grids = tuple((-(-padded[0] // y), -(-padded[1] // x)) for y, x in self.strides)
        cells = [rows * columns * self.per_cell for rows, columns in grids]
        return list(self._of_grids(grids, padded, device).split(cells))

    def _of_grids(self, grids: Grids, padded: tuple[int, int], device: torch.device) -> Tensor:
        strides = self.strides
        if self.grid_strides:
            strides = tuple((padded[0] // h, padded[1] // w) for h, w in grids)
        sizes, ratios = self.sizes, self.aspect_ratios
        return pyramid_anchors(grids, strides, sizes, ratios, self.rounded, device, self.offset)


def anchor_grid(
    key: str,
    specs: Mapping[str, FeatureSpec],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
    *,
    rounded: bool,
    grid_strides: bool,
) -> AnchorGrid:
    """Makes the grid of the levels of `specs`.

    Args:
        key: The head's key of `sizes`, for errors.
        specs: Specs of the levels, finest first.
        sizes: See `AnchorGrid`.
        aspect_ratios: See `AnchorGrid`.
        rounded: See `AnchorGrid`.
        grid_strides: See `AnchorGrid`.

    Raises:
        ValueError: There is not one list of sizes of equal length per level.
    """
    if len(sizes) != len(specs) or len({len(level) for level in sizes}) != 1:
        raise ValueError(
            f"{key}: expected one list per level ({', '.join(specs)}), all of the same length, got"
            f" {sizes}"
        )
    return AnchorGrid(
        tuple((spec.stride[0], spec.stride[1]) for spec in specs.values()),
        tuple(tuple(float(size) for size in level) for level in sizes),
        tuple(float(ratio) for ratio in aspect_ratios),
        rounded,
        grid_strides,
    )


Assign = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Boxes (B, T, 4) and valid slots (B, T) of objects to the index and label (B, A) of anchors."""


def label_anchors(anchors: Tensor, batch: Batch, assign: Assign) -> tuple[Tensor, Tensor]:
    """Returns the object index (B, A) and label (B, A) of each anchor; see `match`.

    An anchor that lies mostly in a crowd region is ignored unless it is an object's.

    Args:
        anchors: (A, 4).
        batch: Its boxes, `boxes_valid` and `crowd`.
        assign: `match`, or another assignment, of these anchors.
    """
    index, label = assign(batch["boxes"], labelled(batch))
    crowd = batch.get("crowd")
    if crowd is None:
        return index, label
    in_crowd = covered(anchors, batch["boxes"], batch["boxes_valid"] & crowd)
    return index, label.masked_fill(in_crowd & (label == NEGATIVE), IGNORED)


def unreached(batch: Batch, assign: Assign) -> Tensor:
    """Returns which objects (B, T) no anchor is trained towards; crowds are not among them."""
    objects = labelled(batch)
    index, label = assign(batch["boxes"], objects)
    reached = torch.zeros(objects.shape, dtype=torch.int64, device=objects.device)
    reached.scatter_add_(1, index, (label == POSITIVE).long())
    return objects & (reached == 0)


def labelled(batch: Batch) -> Tensor:
    """Returns which slots (B, T) hold an object that is no crowd."""
    crowd = batch.get("crowd")
    return batch["boxes_valid"] if crowd is None else batch["boxes_valid"] & ~crowd
