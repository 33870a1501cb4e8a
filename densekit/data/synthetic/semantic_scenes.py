"""Rendered scenes for segmentation."""

from __future__ import annotations

from typing import Any

from densekit.data.synthetic.scenes import Scenes
from densekit.types import Sample


class SemanticScenes(Scenes):
    """The images of `Scenes`, one class a pixel: background, then the shapes.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        settings: `size`, `seed` and `objects`, see `Scenes`.
    """

    def __init__(self, split: str = "train", length: int = 1000, **settings: Any) -> None:
        super().__init__(split, length, semantic_mask=True, **settings)

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
