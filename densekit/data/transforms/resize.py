"""Sizes of training images: the detectors' resize rule, multi-scale, large scale jitter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densekit.data.transforms.geometry import crop, resize
from densekit.ops.resize import ResizeRule, resized_size
from densekit.types import Sample


class Resize:
    """Shorter side to a minimum, longer side at most a maximum, in the image's own dtype.

    It is the rule that the model itself runs when it evaluates (`resize` in the configuration).

    Args:
        min_sizes: Shorter sides in pixels; one is drawn for each image (multi-scale).
        max_size: Largest longer side in pixels.
    """

    def __init__(self, min_sizes: Sequence[int], max_size: int) -> None:
        if isinstance(min_sizes, int) or not min_sizes or min(min_sizes) < 1:
            raise ValueError(f"Resize.min_sizes: a list of sides in pixels, found {min_sizes!r}")
        if max_size < max(min_sizes):
            raise ValueError(
                f"Resize.max_size: {max_size} is less than the largest of min_sizes {min_sizes}"
            )
        self.min_sizes = [int(side) for side in min_sizes]
        self.max_size = int(max_size)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample at a size drawn for it."""
        side = self.min_sizes[int(rng.integers(len(self.min_sizes)))]
        height, width = sample["image"].shape[:2]
        rule = ResizeRule(min_size=side, max_size=self.max_size)
        return resize(sample, resized_size(height, width, rule))


class LargeScaleJitter:
    """Scales the image by a random factor around a size, then cuts a random window of that size.

    The ratio of the sides stays. Smaller results are not padded here: collate pads the batch.
    Ghiasi et al. 2021, Simple Copy-Paste, section 3.

    Args:
        size: Height and width that a factor of 1 fits into.
        scale: Smallest and largest factor.
        min_visible: Boxes of which the window keeps a smaller share are dropped.
    """

    def __init__(
        self,
        size: Sequence[int],
        scale: Sequence[float] = (0.1, 2.0),
        min_visible: float = 0.1,
    ) -> None:
        if len(size) != 2:
            raise ValueError(f"LargeScaleJitter.size: height and width, found {size!r}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"LargeScaleJitter.scale: smallest and largest factor, not {scale!r}")
        self.size = (int(size[0]), int(size[1]))
        self.scale = (float(scale[0]), float(scale[1]))
        self.min_visible = min_visible

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample at a size and in a window drawn for it."""
        height, width = sample["image"].shape[:2]
        fit = min(self.size[0] / height, self.size[1] / width)
        factor = fit * rng.uniform(*self.scale)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        window = min(scaled[0], self.size[0]), min(scaled[1], self.size[1])
        start = [int(rng.integers(big - w + 1)) for big, w in zip(scaled, window, strict=True)]
        return crop(resize(sample, scaled), start, window, min_visible=self.min_visible)
