"""Rendered scenes with targets for three kinds of heads: boxes, a mask and the place."""

from __future__ import annotations

from typing import Any

import numpy as np

from densekit.data.naming import digest
from densekit.data.splits import SPLITS
from densekit.data.synthetic import drawing
from densekit.data.synthetic.canvas import Canvas
from densekit.data.synthetic.scenes import Scenes
from densekit.types import Sample

SHIFT = 0.1
"""Largest shift of the view between two images of a place, as a share of the image's side."""
LIGHT = (0.8, 1.1)
FOLDS = 10
PLACE_STREAM = 7
"""Separates the random numbers of places from those of scenes."""


class PlaceScenes(Scenes):
    """The objects of `Scenes` in front of recurring backgrounds, the places.

    An image has boxes, a mask with the background as class 0, and an identity, its place. Images of
    one place differ in their objects, their lighting and a shift of the view. The places of val and
    test do not occur in training; there, two consecutive images are a pair of one place or of two,
    and the identity is not a target.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        places: Number of places of the training split.
        settings: `size`, `seed` and `objects`, see `Scenes`.
    """

    def __init__(
        self, split: str = "train", length: int = 1000, *, places: int = 50, **settings: Any
    ) -> None:
        super().__init__(split, length, semantic_mask=True, **settings)
        if places < 2:
            raise ValueError(f"PlaceScenes.places: expected at least 2, got {places}")
        self.places = places

    def describe(self) -> dict[str, Any]:
        """Channels, dtype and classes of the boxes; `targets` describes mask and identity."""
        described = super().describe()
        names = ["background", *described["names"]]
        mask = {
            "names": names,
            "ids": list(range(len(names))),
            "num_classes": len(names),
            "background": True,
            "multilabel": False,
        }
        known = digest(f"{self._seed}/{place}" for place in range(self.places))
        identity = {"num_identities": self.places, "identities": known}
        return described | {"targets": {"boxes": {}, "mask": mask, "identity": identity}}

    def __getitem__(self, index: int) -> Sample:
        """Renders one scene.

        Raises:
            IndexError: If the index is out of range.
        """
        sample = super().__getitem__(index)
        truth: Any = sample["truth"]
        truth["mask"], truth["identity"] = sample["mask"], self.place(index)
        if self.split == "train":
            sample["identity"] = np.asarray(self.place(index))
            return sample
        pair, second = divmod(index, 2)
        begins = not second and index + 1 < len(self)
        rows = [(index + 1, pair % 2 == 0, pair % FOLDS)] if begins else []
        truth["pairs"] = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
        return sample

    def place(self, index: int) -> int:
        """Number of an image's place; in training they alternate, else even pairs share one."""
        if self.split == "train":
            return index % self.places
        pair, second = divmod(index, 2)
        return 2 * pair + (second if pair % 2 else 0)

    def _canvas(self, index: int, rng: np.random.Generator) -> Canvas:
        height, width = self.size
        room = (round(SHIFT * height), round(SHIFT * width))
        own = np.random.default_rng(
            (self._seed, PLACE_STREAM, SPLITS.index(self.split), self.place(index))
        )
        wide = drawing.background((height + room[0], width + room[1]), own)
        top, left = (int(rng.integers(most + 1)) for most in room)
        view = wide[top : top + height, left : left + width] * np.float32(rng.uniform(*LIGHT))
        return Canvas(self.size, view)
