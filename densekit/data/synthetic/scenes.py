"""Rendered scenes with every kind of target, without download or files.

N objects of a scene, H and W the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.splits import SPLITS
from densekit.data.synthetic import drawing
from densekit.data.synthetic.canvas import Canvas, cast, extents
from densekit.data.synthetic.dataset import Rendered
from densekit.data.synthetic.drawing import SHAPES, grain
from densekit.ops.run_lengths import encode
from densekit.types import Meta, Sample, TargetSpec, Truth

IDENTITIES_PER_CLASS = 16
_CLASS_HUES = (10.0, 215.0, 50.0, 125.0, 290.0)


class Scenes(Rendered):
    """Discs, squares, triangles, stars and rings over textures, some hidden behind others.

    Image i of a split is a function of (seed, split, i) and the arguments only. By default an image
    has 3 to 12 objects; about 30 % of them cover less than 1 % of it and about 30 % are partly
    hidden by objects, bars or the border, by 58 % at most. Boxes and masks are of the visible part,
    as in COCO. Hue correlates with the class and pattern with the identity, but neither determines
    them.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        size: Height and width in pixels, at least 64.
        seed: Selects the data set; independent of the seed of a training run.
        objects: Smallest and largest number of objects per image.
        instance_masks: Whether samples have instance masks.
        semantic_mask: Whether samples have a mask with 0 for background, label + 1 for objects.
        identities: Whether samples have `extra["identities"]`, one of 80 looks per object.
    """

    def __init__(
        self,
        split: str = "train",
        length: int = 1000,
        *,
        size: Sequence[int] = (160, 160),
        seed: int = 0,
        objects: Sequence[int] = (3, 12),
        instance_masks: bool = False,
        semantic_mask: bool = False,
        identities: bool = False,
    ) -> None:
        super().__init__(split, length, size, seed, smallest=64)
        if len(objects) != 2 or not 1 <= objects[0] <= objects[1]:
            raise ValueError(
                f"Scenes.objects: expected a smallest and a largest number, got {objects!r}"
            )
        self.objects = (int(objects[0]), int(objects[1]))
        self.target_specs = {"identities": TargetSpec(fill=-1, ragged=True)} if identities else {}
        self._instance_masks = instance_masks
        self._semantic_mask = semantic_mask
        self._looks = cast(_CLASS_HUES, IDENTITIES_PER_CLASS, (seed, len(SPLITS)))

    def visibility(self, index: int) -> NDArray[Any]:
        """(N,) visible share of each object of a scene, 1 without occlusion."""
        canvas, _ = self._compose(index)
        shares: NDArray[Any] = canvas.visible() / np.asarray(canvas.full)
        return shares

    def __getitem__(self, index: int) -> Sample:
        """Renders one scene.

        Raises:
            IndexError: If the index is out of range.
        """
        canvas, rng = self._compose(index)
        tags = np.asarray(canvas.tags, dtype=np.int64)
        labels = tags // IDENTITIES_PER_CLASS
        truth = Truth(
            image_id=index,
            size=self.size,
            boxes=extents(canvas.owner, len(tags)),
            labels=labels.copy(),
            area=canvas.visible().astype(np.float64),
            crowd=np.zeros(len(tags), dtype=bool),
            difficult=np.zeros(len(tags), dtype=bool),
        )
        path = f"scenes/{self.split}/{index:06d}.png"
        sample = Sample(
            image=grain(canvas.image, rng),
            boxes=truth["boxes"].astype(np.float32),
            labels=labels,
            crowd=np.zeros(len(tags), dtype=bool),
            index=index,
            meta=Meta(path=path, image_id=index, original_size=self.size),
            truth=truth,
        )
        if self._instance_masks:
            numbers = np.arange(len(tags), dtype=np.int16)[:, None, None]
            sample["instance_masks"] = (canvas.owner == numbers).astype(np.uint8)
            truth["masks"] = encode(sample["instance_masks"])
        if self._semantic_mask:
            # Owner -1, the background, takes the table's last entry.
            sample["mask"] = np.append(labels + 1, 0).astype(np.uint8)[canvas.owner]
        if self.target_specs:
            sample["extra"] = {"identities": tags}
        return sample

    def _canvas(self, index: int, rng: np.random.Generator) -> Canvas:
        """The scene before any object is painted."""
        return Canvas(self.size, drawing.background(self.size, rng))

    def _compose(self, index: int) -> tuple[Canvas, np.random.Generator]:
        """The painted scene, and its generator for the noise drawn afterwards."""
        rng = self._generator(index)
        canvas = self._canvas(index, rng)
        wanted = int(rng.integers(self.objects[0], self.objects[1] + 1))
        for attempt in range(20 * wanted):
            tag = int(rng.integers(len(self._looks)))
            shape = SHAPES[tag // IDENTITIES_PER_CLASS]
            canvas.place(shape, self._looks[tag], tag, rng, anywhere=attempt > 4 * wanted)
            if len(canvas.tags) == wanted:
                break
        for _ in range(int(rng.integers(0, 3))):
            canvas.bar(rng)
        return canvas, rng


class SemanticScenes(Scenes):
    """The images of `Scenes` with one class per pixel: background, then the shapes.

    Args:
        split: "train", "val" or "test".
        length: Number of images.
        settings: `size`, `seed` and `objects`, see `Scenes`.
    """

    def __init__(self, split: str = "train", length: int = 1000, **settings: Any) -> None:
        super().__init__(split, length, semantic_mask=True, **settings)

    def describe(self) -> dict[str, Any]:
        """Names and number of classes, including the background; channels and dtype."""
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
        """Renders one scene; its mask is also the ground truth.

        Raises:
            IndexError: If the index is out of range.
        """
        sample = super().__getitem__(index)
        sample["truth"]["mask"] = sample["mask"]
        return sample


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
        """Renders one scene; its category is also the ground truth.

        Raises:
            IndexError: If the index is out of range.
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
