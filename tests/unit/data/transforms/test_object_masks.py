"""After every transform each mask of a batch shows its own object, wherever it moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from densekit.data import (
    Augment,
    BoxMixUp,
    Chain,
    CopyPaste,
    LargeScaleJitter,
    Mosaic,
    Patch,
    Resize,
    Scenes,
)
from densekit.data.collate import collate
from densekit.data.object_masks import SIDE
from densekit.data.transforms.partners import apply_steps
from densekit.types import Sample

STEPS: dict[str, Any] = {
    "none": Chain({}),
    "flips": Augment({"HorizontalFlip": {"p": 1}, "VerticalFlip": {"p": 1}}),
    "turned": Augment({"Affine": {"rotate": [30, 31], "scale": 0.8, "shear": 10, "p": 1}}),
    "cropped": Augment({"RandomCrop": {"height": 50, "width": 70, "p": 1}}),
    "covered": Augment({"CoarseDropout": {"p": 1}}),
    "shrunk": Resize([45], 200),
    "enlarged": Resize([131], 400),
    "jittered": LargeScaleJitter([80, 90], (0.5, 2.0)),
    "patch": Patch((64, 48), balanced=0.5),
    "mosaic": Mosaic((90, 100)),
    "copy-paste": CopyPaste(),
    "several": Chain({"paste": CopyPaste(), "mosaic": Mosaic((90, 100)), "size": Resize([77], 99)}),
}


class Numbered(Scenes):
    """Scenes whose objects have a class each, so that a semantic mask tells them apart."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        masks = sample["instance_masks"]
        sample["labels"] = 12 * index + np.arange(len(masks))
        numbers = (1 + sample["labels"])[:, None, None] * masks
        sample["mask"] = numbers.sum(0).astype(np.uint8)
        return sample


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_masks_are_where_the_semantic_mask_says(name: str, seed: int) -> None:
    data = Numbered("train", 5, size=(96, 110), instance_masks=True)
    sample = apply_steps(STEPS[name], data[seed], np.random.default_rng(seed), data)
    assert len(sample["boxes"])
    masks = collate([sample], training=True)["object_masks"][0].numpy()
    assert (masks[len(sample["boxes"]) :] == 255).all()
    centres = (np.arange(SIDE) + 0.5) / SIDE
    boxes = sample["boxes"].astype(np.float64)
    for (x1, y1, x2, y2), label, mask in zip(boxes, sample["labels"], masks, strict=False):
        rows, columns = (
            (y1 + centres * (y2 - y1)).astype(int),
            (x1 + centres * (x2 - x1)).astype(int),
        )
        seen = sample["mask"][rows[:, None], columns]
        known = (seen != 255) & (mask != 255)
        assert known.mean() > 0.3
        assert ((mask == 1) == (seen == label + 1))[known].all()


def test_mixup_keeps_the_masks_of_both_images() -> None:
    data = Scenes("train", 4, size=(96, 110), instance_masks=True)
    first, rng = data[0], np.random.default_rng(0)
    mixed = apply_steps(BoxMixUp((1.0, 1.0)), first, rng, data)
    count = len(first["boxes"])
    assert len(mixed["boxes"]) > count
    assert (mixed["instance_masks"][:count] == first["instance_masks"]).all()
    for box, mask in zip(mixed["boxes"], mixed["instance_masks"], strict=True):
        y, x = (mask == 1).nonzero()
        extent = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        np.testing.assert_allclose(box, extent, atol=1)
