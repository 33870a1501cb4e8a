"""Sliding window: predicts images of any size with a network that was trained on patches.

Shape letters: B images, C channels, K classes, D spatial dimensions, S the D sizes of an image,
W the D sides of the window, N windows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.inference.inferer import Inferer, logits_of
from densekit.model import DenseModel
from densekit.ops.padding import corner, stack_padded, window_at
from densekit.types import Batch, Features, Predictions

Place = tuple[Any, ...]
"""A part of an image, one slice per axis of S."""

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

    def slabs(
        self, model: DenseModel, sides: Sequence[int], read: Callable[[Place], Tensor]
    ) -> Iterator[tuple[slice, dict[str, Predictions]]]:
        """Predicts one image in slabs, and holds only the rows that the windows at hand cover.

        Args:
            model: In eval mode.
            sides: S, of the image without padding.
            read: Returns the part (C, ...) of the image at a place.

        Yields:
            The next rows of the first axis, and the logits (K, n, *S[1:]) of every head there.
        """
        margins = [max(w - side, 0) for w, side in zip(self.window, sides, strict=True)]
        padded = [side + margin for side, margin in zip(sides, margins, strict=True)]
        within = window_at([margin // 2 for margin in margins], sides)
        sums = _Sums(self.weights, padded)
        starts = window_starts(padded, self.window, self.overlap)
        for part in _batched(starts, self.batch_size):
            places = [window_at(start, map(min, self.window, sides)) for start in part]
            tiles = [_centred(model, read(place), margins) for place in places]
            predicted = logits_of(self._windows(model, tiles), "SlidingWindow")
            device = self.stitch_device or tiles[0].device
            for row, start in enumerate(part):
                if start[0] > sums.first:  # no later window covers the rows before it
                    yield sums.taken(start[0], within)
                of_window = {
                    head: (key, logits[row][corner(self.window)].to(device))
                    for head, (key, logits) in predicted.items()
                }
                sums.add(start, of_window)
        yield sums.taken(padded[0], within)

    def _one(self, model: DenseModel, image: Tensor) -> dict[str, Predictions]:
        """(K, *S) logits of every head for one image (C, *S) without padding."""
        whole: dict[str, Predictions] = {}
        sides = image.shape[1:]
        for rows, slab in self.slabs(model, sides, lambda place: image[(..., *place)]):
            if rows == slice(0, sides[0]):
                return slab
            for head, of_head in slab.items():
                for key, logits in of_head.items():
                    if head not in whole:
                        whole[head] = {key: logits.new_empty((len(logits), *sides))}
                    whole[head][key][:, rows] = logits
        return whole

    def _windows(self, model: DenseModel, tiles: Sequence[Tensor]) -> dict[str, Predictions]:
        image = torch.stack(list(tiles)).to(model.mean.device)  # (N, C, *W)
        size = torch.tensor([self.window] * len(tiles), device=image.device)
        return model.predict({"image": image, "size": size})


class _Sums:
    """Weighted sums of logits in the rows of an image that the windows at hand cover.

    Args:
        weights: (*W) of every window.
        sides: S of the image, none smaller than the window's.

    Attributes:
        first: The image's row that is the first one here.
    """

    def __init__(self, weights: Tensor, sides: Sequence[int]) -> None:
        self.weights = weights
        self.sides = (len(weights), *sides[1:])
        self.first = 0
        self.sums: dict[str, Predictions] = {}
        self.total = torch.zeros(())

    def add(self, start: Sequence[int], logits: Mapping[str, tuple[str, Tensor]]) -> None:
        """Adds the logits (K, *W) of the window that starts at a position of the image."""
        place = window_at([start[0] - self.first, *start[1:]], self.weights.shape)
        for head, (key, values) in logits.items():
            if head not in self.sums:
                empty = torch.zeros((len(values), *self.sides), device=values.device)
                self.sums[head] = {key: empty}
                self.weights, self.total = self.weights.to(empty), self.total.to(empty)
            self.sums[head][key][(..., *place)] += values.float() * self.weights
        if not self.total.ndim:
            self.total = self.total.new_zeros(self.sides)
        self.total[place] += self.weights

    def taken(self, stop: int, within: Place) -> tuple[slice, dict[str, Predictions]]:
        """Gives up the rows before `stop`.

        Args:
            stop: A row that no later window starts before.
            within: Where the image without its margins lies.

        Returns:
            Those of these rows that lie within, counted from there, and their means (K, n, ...).
        """
        first, last = max(self.first, within[0].start), min(stop, within[0].stop)
        place = (slice(first - self.first, last - self.first), *within[1:])
        means = {
            head: {key: value[(..., *place)] / self.total[place] for key, value in of_head.items()}
            for head, of_head in self.sums.items()
        }
        count = stop - self.first
        for sums in (
            self.total[None],
            *(one for head in self.sums.values() for one in head.values()),
        ):
            kept = sums[:, count:].clone()
            sums.zero_()[:, : kept.shape[1]] = kept
        self.first = stop
        return slice(first - within[0].start, last - within[0].start), means


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
