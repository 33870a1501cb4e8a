"""Rendered scenes with a target for three kinds of heads: objects, pixels and the place."""

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
"""Most that the view moves between two pictures of a place, of the side of the image."""
LIGHT = (0.8, 1.1)
FOLDS = 10
PLACE_STREAM = 7
"""Tells the random numbers of places from those of scenes."""


class PlaceScenes(Scenes):
    """The images of `Scenes` before backgrounds that return: the places.

    A picture has boxes, a mask with the background as class 0, and an identity, the place it was
    taken at. Pictures of one place have other objects in front, another light and a view that is
    shifted. Places of val and test are not among those of training; there, two neighbouring
    pictures are a pair that shows one place or two, and the identity is no target.

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
            raise ValueError(f"PlaceScenes.places: found {places}, accepted are 2 and more")
        self.places = places

    def describe(self) -> dict[str, Any]:
        """Channels, dtype and the classes of the boxes; under `targets` what others differ in."""
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
            IndexError: Beyond the length.
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
        """Number of the place: in training each in turn, else one for every even pair."""
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
