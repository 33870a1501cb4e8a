"""Rendered pictures for classification."""

from __future__ import annotations

from typing import Any

import numpy as np

from densekit.data.synthetic.scenes import Scenes
from densekit.types import Sample


class CategoryScenes(Scenes):
    """The images of `Scenes` with one object each, whose shape is the category.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        settings: `size` and `seed`, see `Scenes`.
    """

    def __init__(self, split: str = "train", length: int = 1000, **settings: Any) -> None:
        super().__init__(split, length, objects=(1, 1), **settings)

    def describe(self) -> dict[str, Any]:
        """Names and number of classes; channels and dtype."""
        described = super().describe()
        return described | {"ids": list(range(described["num_classes"])), "multilabel": False}

    def __getitem__(self, index: int) -> Sample:
        """Renders one scene; the category is the truth too.

        Raises:
            IndexError: Beyond the length.
        """
        scene = super().__getitem__(index)
        category = np.asarray(scene["labels"][0])
        truth, size = scene["truth"], scene["truth"]["size"]
        return Sample(
            image=scene["image"],
            category=category,
            index=index,
            meta=scene["meta"],
            truth={"image_id": truth["image_id"], "size": size, "category": category},
        )
