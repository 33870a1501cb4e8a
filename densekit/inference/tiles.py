"""Predicts huge images tile by tile: memory is bounded by the tile, not by the image.

Shape letters: H and W the sides of an image, C its channels, K classes, h and w those of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit._extras import need
from densekit._files import replacing
from densekit._names import choose
from densekit.data.reading.intensity import kinds
from densekit.inference.inferer import LOGITS, logits_of
from densekit.inference.receptive import receptive_margin, stride_of
from densekit.inference.restore import HALF, restore_mask
from densekit.inference.tile_source import Box, TileSource
from densekit.model import DenseModel
from densekit.visualization.colours import palette

TIFF_STEP = 16
"""The sides of a TIFF's tiles are multiples of this."""
CLASSIC_LIMIT = 3 << 30
"""Size in bytes above which the mask is written as a BigTIFF."""
CHANNELS = {"photometric": "minisblack", "planarconfig": "contig"}
WHOLE_IMAGE_RULES = ("zscore", "percentile")
"""Intensity rules that need statistics of the whole image."""


def predict_tiles(
    model: DenseModel,
    source: str | Path,
    target: str | Path,
    head: str | None = None,
    tile: int = 1024,
    margin: int | None = None,
    values: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Predicts a huge image tile by tile and writes its mask as a tiled TIFF.

    Each tile is predicted with a margin of the image around it, which is then cropped; tiles are
    not blended. With a margin as wide as the receptive field, the mask equals that of the whole
    image predicted at once. For networks that upsample their logits to the size of the image by a
    ratio, as FCN and a U-Net with `finest` do, this holds where the stride divides the sides of the
    image; with heads that align corners (smp's Segformer, DeepLabV3+) it then holds nearly.

    Args:
        model: For 2-D images, in eval mode.
        source: TIFF or `.npy` file, see `TileSource`.
        target: TIFF to write, with the class colours as its palette; multi-label classes are
            channels. It is written atomically.
        head: The head whose mask is written; the only one by default.
        tile: Side of a tile in pixels, rounded up to a multiple of the network's stride.
        margin: Pixels around a tile; None measures the receptive field (`receptive_margin`).
        values: Value written for each class, 0 to 255, its index by default; for multi-label masks
            the two values for no and yes.

    Returns:
        The tile side and the margin that were used.

    Raises:
        ValueError: The file or the model cannot be predicted tile by tile, or the margin is
            negative.
    """
    tifffile = need("tifffile", f"{target}: writing tiles", "tiles")
    picture = TileSource(Path(source))
    check_tileable(model, picture)
    step = int(np.lcm(stride_of(model), TIFF_STEP))
    tile, margin = -(-tile // step) * step, _margin(model, margin)
    found = (mask for _, mask in tile_masks(model, picture, tile, margin, head))
    stored = np.arange(256) if values is None else np.asarray(values)
    masks = (stored.astype(np.uint8)[mask] for mask in found)
    first = next(masks)
    shape = (*picture.shape[:2], *first.shape[2:])
    with (
        replacing(target) as part,
        tifffile.TiffWriter(part, bigtiff=int(np.prod(shape)) > CLASSIC_LIMIT) as writer,
    ):
        writer.write(
            _chain(first, masks),
            shape=shape,
            dtype=np.uint8,
            tile=(tile, tile),
            compression="zlib",
            maxworkers=1,  # several would run ahead and hold many tiles
            **(_palette(model, head, stored) if first.ndim == 2 else CHANNELS),
        )
    return tile, margin


def tile_masks(
    model: DenseModel, picture: TileSource, tile: int, margin: int, head: str | None = None
) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Yields the position of each tile, row by row, and its mask (h, w), multi-label (h, w, K)."""
    for box, logits in tile_logits(model, picture, tile, margin):
        name = next(iter(logits)) if head is None and len(logits) == 1 else str(head)
        key, values = choose("head", name, logits)
        at = model.thresholds.get(name, HALF)
        mask = restore_mask(values, tuple(values.shape[1:]), key != LOGITS[0], at)
        yield box, np.moveaxis(mask, 0, -1) if mask.ndim == 3 else mask


@torch.inference_mode()
def tile_logits(
    model: DenseModel, picture: TileSource, tile: int, margin: int
) -> Iterator[tuple[Box, dict[str, tuple[str, Tensor]]]]:
    """Yields the position of each tile, row by row, and each head's key and logits (K, h, w).

    Args:
        model: For 2-D images, in eval mode.
        picture: The source.
        tile: Side of a tile, a multiple of `stride_of(model)`, so that the network's grids align
            with those of the whole image.
        margin: Likewise a multiple; it ends at the borders of the image, where the network pads.
    """
    height, width, _ = picture.shape
    stride = stride_of(model)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            (rows, inner_rows), (columns, inner_columns) = (
                _around(start, tile, margin, side, stride)
                for start, side in ((top, height), (left, width))
            )
            image = _tensor(model, picture.window((rows, columns)))  # (1, C, h + 2 m, w + 2 m)
            size = torch.tensor([image.shape[2:]], device=image.device)
            found = logits_of(model.predict({"image": image, "size": size}), "predict_tiles")
            box = slice(top, min(top + tile, height)), slice(left, min(left + tile, width))
            yield (
                box,
                {
                    head: (key, value[0][:, inner_rows, inner_columns])
                    for head, (key, value) in found.items()
                },
            )


def check_tileable(model: DenseModel, picture: TileSource) -> None:
    """Refuses models and images that cannot be predicted tile by tile.

    Raises:
        ValueError: Names the reason.
    """
    info, where = model.info, picture.path
    if model.spatial_dims != 2 or info.get("slices"):
        raise ValueError(f"{where}: expected a model of 2-D images for tiles, got one of volumes")
    if info.get("resize"):
        raise ValueError(
            f"{where}: expected a model that does not resize, since tiles cannot be resized like "
            f"whole images, got info.resize = {info['resize']}"
        )
    found = kinds(info.get("intensity"))
    if whole := sorted(found & set(WHOLE_IMAGE_RULES)):
        raise ValueError(
            f"{where}: expected a model with the intensity 'window', 'range' or 'clip' for tiles, "
            f"got {whole[0]!r}, which needs the statistics of the whole image"
        )
    channels = model.mean.shape[1]
    if picture.shape[2] != channels:
        raise ValueError(f"{where}: expected {channels} channels, got {picture.shape[2]}")
    deep = "float32" in (info.get("dtype"), "float32" if found else "")
    if picture.dtype != np.uint8 and not deep:
        raise ValueError(f"{where}: expected uint8, as in training, got {picture.dtype}")


def _margin(model: DenseModel, margin: int | None) -> int:
    if margin is None:
        margin = receptive_margin(model)
    if margin is None:
        raise ValueError(
            "margin: expected a network with a limited receptive field, got one that sees the "
            "whole image (global pooling or instance norm), so that tiles cannot give the same "
            "mask; densekit.inference.predict_tiles(margin=...) accepts an approximation"
        )
    if margin < 0:
        raise ValueError(f"margin: expected at least 0, got {margin}")
    stride = stride_of(model)
    return -(-margin // stride) * stride


def _around(start: int, tile: int, margin: int, side: int, stride: int) -> tuple[slice, slice]:
    """Along one axis: the window in the image, and the tile within the window.

    Windows at the borders of the image are moved inwards, so that all but the last have one length,
    for which an engine needs one program.
    """
    length = tile + 2 * margin
    rest = -(-(side - length) // stride) * stride
    first = max(0, min(start - margin, rest))
    last = min(side, first + length)
    return slice(first, last), slice(start - first, min(start + tile, side) - first)


def _tensor(model: DenseModel, window: NDArray[Any]) -> Tensor:
    intensity = model.info.get("intensity")
    if intensity:
        from densekit.data.reading.intensity import scale

        window = scale(window, intensity)
    elif window.dtype != np.uint8:
        window = window.astype(np.float32)
    return torch.from_numpy(window.transpose(2, 0, 1)[None].copy()).to(model.mean.device)


def _palette(model: DenseModel, head: str | None, stored: NDArray[Any]) -> dict[str, Any]:
    name = next(iter(model.heads)) if head is None else head
    classes = model.info.get("heads", {}).get(name, {})
    first = 1 if classes.get("background", True) else 0
    colours = palette({int(stored[label]): label for label in range(first, len(stored))})
    return {"photometric": "palette", "colormap": colours.T.astype(np.uint16) * 257}


def _chain(first: NDArray[Any], others: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    yield np.ascontiguousarray(first)
    for mask in others:
        yield np.ascontiguousarray(mask)
