"""Small rendered images of one large shape, for networks of small inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.synthetic import drawing
from densekit.data.synthetic.dataset import Rendered
from densekit.data.synthetic.drawing import SHAPES
from densekit.types import Meta, Sample, Truth

SMALLEST = 12
"""Smallest side in pixels at which the five shapes can be distinguished."""


class ShapePictures(Rendered):
    """Images of one shape each, about half as large, of any angle and colour, over a texture.

    Image i of a split is a function of (seed, split, i) and the size. It is rendered on first
    access and then kept in memory: 1,000 images of 16 x 16 pixels take less than 1 MB.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        size: Height and width in pixels, at least 12.
        seed: Selects the data set; independent of the seed of a training run.
    """

    def __init__(
        self,
        split: str = "train",
        length: int = 1000,
        *,
        size: Sequence[int] = (16, 16),
        seed: int = 0,
    ) -> None:
        super().__init__(split, length, size, seed, smallest=SMALLEST)
        self._kept: dict[int, tuple[NDArray[Any], int]] = {}

    def describe(self) -> dict[str, Any]:
        """Names and number of classes; channels and dtype."""
        described = super().describe()
        return described | {"ids": list(range(described["num_classes"])), "multilabel": False}

    def __getitem__(self, index: int) -> Sample:
        """The image and its category, the shape.

        Raises:
            IndexError: If the index is out of range.
        """
        if index not in self._kept:
            self._kept[index] = self._render(index)
        image, label = self._kept[index]
        category = np.asarray(label)
        path = f"shapes/{self.split}/{index:06d}.png"
        return Sample(
            image=image.copy(),
            category=category,
            index=index,
            meta=Meta(path=path, image_id=index, original_size=self.size),
            truth=Truth(image_id=index, size=self.size, category=category),
        )

    def _render(self, index: int) -> tuple[NDArray[Any], int]:
        """(H, W, 3) uint8 image and the number of its shape."""
        rng = self._generator(index)
        image = drawing.background(self.size, rng)
        label, angle = int(rng.integers(len(SHAPES))), rng.uniform(0, 2 * np.pi)
        diameter = min(self.size) * rng.uniform(0.55, 0.85)
        x, y = (side * rng.uniform(0.35, 0.65) for side in self.size[::-1])
        cover = drawing.coverage(SHAPES[label], diameter, angle, (x % 1, y % 1))
        color = drawing.hsv(rng.uniform(0, 360), rng.uniform(0.55, 1), rng.uniform(0.55, 1))
        drawing.paint(image, cover, color, int(y) - len(cover) // 2, int(x) - len(cover) // 2)
        return drawing.grain(image, rng), label
