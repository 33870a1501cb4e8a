"""Rendered scenes in which the background is stuff: bands of sand, grass and water.

H and W the size of an image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.splits import SPLITS
from densekit.data.synthetic.canvas import Canvas
from densekit.data.synthetic.drawing import hsv
from densekit.data.synthetic.scenes import Scenes
from densekit.types import Sample

STUFF = ("sand", "grass", "water")
_HUES = (38.0, 105.0, 215.0)
_STREAM = 11
"""Separates the random numbers of the bands from those of scenes."""


class PanopticScenes(Scenes):
    """The objects of `Scenes` with their masks, in front of two or three bands of stuff.

    A band's class shows in its texture and, less surely, in its colour. In the mask, 0 is every
    thing and then come the classes of stuff, as Panoptic FPN trains them; the clutter in front
    belongs to the stuff behind it.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        settings: `size`, `seed` and `objects`, see `Scenes`.
    """

    def __init__(self, split: str = "train", length: int = 1000, **settings: Any) -> None:
        super().__init__(split, length, instance_masks=True, **settings)

    def describe(self) -> dict[str, Any]:
        """Channels, dtype and classes of the boxes; `targets` describes the mask."""
        described = super().describe()
        first = described["num_classes"] + 1
        mask = {
            "names": ["things", *STUFF],
            "ids": [0, *range(first, first + len(STUFF))],
            "num_classes": 1 + len(STUFF),
            "background": True,
            "multilabel": False,
        }
        return described | {"targets": {"boxes": {}, "mask": mask}}

    def __getitem__(self, index: int) -> Sample:
        """Renders one scene.

        Raises:
            IndexError: If the index is out of range.
        """
        sample = super().__getitem__(index)
        bands, _ = self._bands(index)
        sample["mask"] = np.where(sample["instance_masks"].any(0), 0, bands + 1).astype(np.uint8)
        sample["truth"]["mask"] = sample["mask"]
        return sample

    def _bands(self, index: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """(H, W) class of stuff of each pixel, and the generator for its texture."""
        rng = np.random.default_rng((self._seed, _STREAM, SPLITS.index(self.split), index))
        height, width = self.size
        kinds = rng.permutation(len(STUFF))[: int(rng.integers(2, len(STUFF) + 1))]
        turn = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[:height, :width] / math.hypot(height, width)
        along, across = (math.cos(t) * x + math.sin(t) * y for t in (turn, turn + math.pi / 2))
        place = along + rng.uniform(0.01, 0.05) * np.sin(across * rng.uniform(8, 25))
        ends = np.quantile(place, np.arange(1, len(kinds)) / len(kinds) + rng.uniform(-0.1, 0.1))
        return kinds[np.searchsorted(ends, place)], rng

    def _canvas(self, index: int, rng: np.random.Generator) -> Canvas:
        bands, own = self._bands(index)
        painted = [_texture(kind, self.size, own) for kind in range(len(STUFF))]
        image = np.choose(bands[..., None], painted)
        return Canvas(self.size, image.astype(np.float32))


def _texture(kind: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W, 3) sand (speckles), grass (upright blades) or water (long waves)."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if kind == 0:
        light = rng.normal(0, 22, (height, width))
    elif kind == 1:
        blades = rng.normal(0, 30, (height // 8 + 1, width))
        light = np.repeat(blades, 8, axis=0)[:height] + 8 * np.sin(y * 0.8)
    else:
        length, lean = rng.uniform(7, 13), rng.uniform(-0.2, 0.2)
        light = 24 * np.sin((y + lean * x + 3 * np.sin(x / 17)) * 2 * math.pi / length)
    color = hsv(_HUES[kind] + rng.normal(0, 30), rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.75))
    textured: NDArray[np.float32] = (color + light[..., None]).astype(np.float32)
    return textured
