"""Rendered scenes for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densekit.data.scenes import Scenes
from densekit.types import Sample


class SemanticScenes(Scenes):
    """The images of `Scenes`, one class a pixel: background, then the shapes.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        size: Height and width in pixels, at least 64.
        seed: Another seed is another data set. It belongs to the data, not to a training run.
        objects: Smallest and largest number of objects an image.
    """

    def __init__(
        self,
        split: str = "train",
        length: int = 1000,
        *,
        size: Sequence[int] = (160, 160),
        seed: int = 0,
        objects: Sequence[int] = (3, 12),
    ) -> None:
        super().__init__(split, length, size=size, seed=seed, objects=objects, semantic_mask=True)

    def describe(self) -> dict[str, Any]:
        """Names and number of classes, the background among them; channels and dtype."""
        described = super().describe()
        names = ["background", *described["names"]]
        return described | {
            "names": names,
            "ids": list(range(len(names))),
            "num_classes": len(names),
            "background": True,
            "multilabel": False,
        }

    def __getitem__(self, index: int) -> Sample:
        """Renders one scene; the mask is the truth too.

        Raises:
            IndexError: Beyond the length.
        """
        sample = super().__getitem__(index)
        sample["truth"]["mask"] = sample["mask"]
        return sample
