"""Sliding window: predicts images of any size with a network that was trained on patches.

Shape letters: B images, C channels, K classes, D spatial dimensions, S the D sizes of an image,
W the D sides of the window, N windows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.inference.inferer import Inferer, logits_of
from densekit.model import DenseModel
from densekit.ops.padding import corner, stack_padded, window_at
from densekit.types import Batch, Features, Predictions

SMALLEST_WEIGHT = 1e-3
"""Lower bound of a window's weights, so that the division by their sum stays well conditioned."""


class SlidingWindow(Inferer):
    """Predicts overlapping windows and averages their logits.

    The same windows and weights as MONAI's `sliding_window_inference`. Where the window is larger
    than the image, the image is centred in it and padded with zeros after normalisation.

    Args:
        window: The D sides of a window, preferably those of the training patches.
        overlap: Share of a window's side that the next window covers again, in [0, 1).
        batch_size: Windows per forward pass.
        gaussian: Whether pixels near a window's border weigh less (Isensee et al. 2021, nnU-Net,
            "Inference"); otherwise all weigh the same.
        sigma: Standard deviation of the Gaussian, as a share of the window's side.
        stitch_device: Where the logits of the whole image are accumulated; None for the device of
            the image, "cpu" to save accelerator memory.

    Raises:
        ValueError: An argument is out of range.
    """

    window: tuple[int, ...]

    def __init__(
        self,
        window: Sequence[int],
        overlap: float = 0.5,
        batch_size: int = 1,
        gaussian: bool = True,
        sigma: float = 0.125,
        stitch_device: str | None = None,
    ) -> None:
        if not window or min(window) < 1:
            raise ValueError(
                f"SlidingWindow.window: expected sides of at least 1, got {list(window)}"
            )
        if not 0 <= overlap < 1:
            raise ValueError(f"SlidingWindow.overlap: expected 0 to below 1, got {overlap}")
        if batch_size < 1:
            raise ValueError(f"SlidingWindow.batch_size: expected at least 1, got {batch_size}")
        if sigma <= 0:
            raise ValueError(f"SlidingWindow.sigma: expected above 0, got {sigma}")
        self.window = tuple(int(side) for side in window)
        self.overlap = overlap
        self.batch_size = batch_size
        self.weights = gaussian_weights(self.window, sigma) if gaussian else torch.ones(self.window)
        self.stitch_device = stitch_device

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Averaged logits of every head, zero beyond `size`; `features` is not used."""
        if len(self.window) != model.spatial_dims:
            raise ValueError(
                f"SlidingWindow.window: expected {model.spatial_dims} sides, one per axis of the "
                f"images, got {list(self.window)}"
            )
        rows = []
        for image, size in zip(batch["image"], batch["size"].tolist(), strict=True):
            rows.append(self._one(model, image[corner(size)]))
        sides = batch["image"].shape[2:]
        return {
            head: {key: _stack([row[head][key] for row in rows], sides) for key in of_head}
            for head, of_head in rows[0].items()
        }

    def _one(self, model: DenseModel, image: Tensor) -> dict[str, Predictions]:
        """(K, *S) logits of every head for one image (C, *S) without padding."""
        sides = image.shape[1:]
        margins = [max(w - side, 0) for w, side in zip(self.window, sides, strict=True)]
        image = _centred(model, image, margins)
        starts = window_starts(image.shape[1:], self.window, self.overlap)
        device = self.stitch_device or image.device
        sums: dict[str, Predictions] = {}
        total = torch.zeros(image.shape[1:], device=device)
        weights = self.weights.to(device)
        for part in _batched(starts, self.batch_size):
            places = [window_at(start, self.window) for start in part]
            predicted = self._windows(model, image, places)
            for head, (key, logits) in logits_of(predicted, "SlidingWindow").items():
                if head not in sums:
                    empty = torch.zeros((logits.shape[1], *image.shape[1:]), device=device)
                    sums[head] = {key: empty}
                for place, found in zip(places, logits, strict=True):
                    inside = found[corner(self.window)]  # without the padding to size_divisor
                    sums[head][key][(..., *place)] += inside.to(device).float() * weights
            for place in places:
                total[place] += weights
        within = window_at([m // 2 for m in margins], sides)
        return {
            head: {key: value.div_(total)[(..., *within)] for key, value in of_head.items()}
            for head, of_head in sums.items()
        }

    def _windows(
        self, model: DenseModel, image: Tensor, places: Sequence[tuple[Any, ...]]
    ) -> dict[str, Predictions]:
        tiles = torch.stack([image[(..., *place)] for place in places])  # (N, C, *W)
        tiles = tiles.to(model.mean.device)
        size = torch.tensor([self.window] * len(places), device=tiles.device)
        return model.predict({"image": tiles, "size": size})


def gaussian_weights(window: Sequence[int], sigma: float) -> Tensor:
    """(*W) weights in [1e-3, 1], the product of one Gaussian per axis around the window's centre.

    Args:
        window: Sides W.
        sigma: Standard deviation as a share of the window's side.
    """
    weights = torch.ones(())
    for side in window:
        x = torch.arange(side) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(x**2) / (2 * (side * sigma) ** 2))
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


def window_starts(
    sides: Sequence[int], window: Sequence[int], overlap: float
) -> list[tuple[int, ...]]:
    """First corners of the windows, the last axis varying fastest; the last ones end at the border.

    Args:
        sides: Of an image, none smaller than the window's.
        window: Sides of a window.
        overlap: Share of a side, in [0, 1).
    """
    axes = []
    for side, length in zip(sides, window, strict=True):
        step = max(1, int(length * (1 - overlap)))
        count = math.ceil((side - length) / step) + 1
        axes.append([min(n * step, side - length) for n in range(count)])
    return list(itertools.product(*axes))


def _centred(model: DenseModel, image: Tensor, margins: Sequence[int]) -> Tensor:
    """The image centred in a larger one, padded with the value that normalises to zero."""
    if not any(margins):
        return image
    image = model.in_unit(image).to(model.mean.dtype)
    mean = model.mean[0].flip(0) if model.flip_channels else model.mean[0]  # (C, 1, ...)
    mean = mean.to(image.device)
    pads = [side for m in reversed(margins) for side in (m // 2, m - m // 2)]
    inside = F.pad(torch.ones_like(image, dtype=torch.bool), pads)
    return torch.where(inside, F.pad(image, pads), mean)


def _stack(rows: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Stacks rows (K, ...) to (B, K, *S), padded at the end; no copy where nothing is padded."""
    if len(rows) == 1 and rows[0].shape[1:] == tuple(sides):
        return rows[0][None]
    return stack_padded(rows, sides)


def _batched(starts: Sequence[tuple[int, ...]], count: int) -> Iterator[Sequence[tuple[int, ...]]]:
    for first in range(0, len(starts), count):
        yield starts[first : first + count]
