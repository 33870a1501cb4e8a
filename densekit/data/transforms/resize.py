"""Resizing of training images: shorter and longer side, multi-scale, large-scale jitter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densekit.data.transforms.geometry import crop, resize
from densekit.ops.resize import ResizeRule, resized_size
from densekit.types import Sample


class Resize:
    """Resizes the shorter side to a given size, unless the longer one would exceed a maximum.

    The image keeps its dtype. The model applies the same rule in evaluation (`resize` in the
    configuration).

    Args:
        min_sizes: Shorter sides in pixels; one is drawn per image (multi-scale).
        max_size: Largest longer side in pixels.
    """

    def __init__(self, min_sizes: Sequence[int], max_size: int) -> None:
        if isinstance(min_sizes, int) or not min_sizes or min(min_sizes) < 1:
            raise ValueError(
                f"Resize.min_sizes: expected a list of sizes in pixels, got {min_sizes!r}"
            )
        if max_size < max(min_sizes):
            raise ValueError(
                f"Resize.max_size: expected at least the largest of min_sizes {min_sizes}, got"
                f" {max_size}"
            )
        self.min_sizes = [int(side) for side in min_sizes]
        self.max_size = int(max_size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample resized to a randomly drawn size."""
        side = self.min_sizes[int(rng.integers(len(self.min_sizes)))]
        height, width = sample["image"].shape[:2]
        rule = ResizeRule(min_size=side, max_size=self.max_size)
        return resize(sample, resized_size(height, width, rule))


class LargeScaleJitter:
    """Scales the image by a random factor around a size, then crops a random window of that size.

    The aspect ratio is kept. Smaller results are not padded here: collate pads the batch.
    Ghiasi et al. 2021, Simple Copy-Paste, section 3.

    Args:
        size: Height and width into which the image fits at a factor of 1.
        scale: Smallest and largest factor.
        min_visible: Drop boxes of which a smaller share stays in the window.
    """

    def __init__(
        self,
        size: Sequence[int],
        scale: Sequence[float] = (0.1, 2.0),
        min_visible: float = 0.1,
    ) -> None:
        if len(size) != 2:
            raise ValueError(f"LargeScaleJitter.size: expected height and width, got {size!r}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f"LargeScaleJitter.scale: expected a smallest and a largest factor, got {scale!r}"
            )
        self.size = (int(size[0]), int(size[1]))
        self.scale = (float(scale[0]), float(scale[1]))
        self.min_visible = min_visible

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample scaled by a random factor and cropped to a random window."""
        height, width = sample["image"].shape[:2]
        fit = min(self.size[0] / height, self.size[1] / width)
        factor = fit * rng.uniform(*self.scale)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        window = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
        start = [int(rng.integers(big - w + 1)) for big, w in zip(scaled, window, strict=True)]
        return crop(resize(sample, scaled), start, window, min_visible=self.min_visible)
