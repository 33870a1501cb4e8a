"""Copy-paste: objects of one image are pasted into another, by their instance masks.

N objects, H, W the size of an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.transforms.geometry import crop, select_boxes, with_rows
from densekit.data.transforms.partners import (
    Mixing,
    Partners,
    check_mixable,
    check_share,
)
from densekit.types import Sample


class CopyPaste(Mixing):
    """Pastes random objects of another image (Ghiasi et al. 2021, "Simple Copy-Paste").

    Each time, a random number of objects, at least one, is pasted where it was. They hide what is
    behind them: instance masks and the semantic mask, if there is one, change, boxes shrink to what
    is left, and hidden objects are dropped. Crowds are not pasted. The paper scales and flips both
    images independently: put `LargeScaleJitter` and a flip before this step.

    Args:
        probability: Share of the samples that are mixed.
        min_visible: Drop objects of which a smaller share, or nothing, is left.

    Raises:
        ValueError: For invalid values; at the first image without instance masks, or with a
            category or an identity.
    """

    def __init__(self, *, probability: float = 1.0, min_visible: float = 0.0) -> None:
        self.probability = check_share(probability, "CopyPaste.probability")
        self.min_visible = check_share(min_visible, "CopyPaste.min_visible")

    def mix(self, sample: Sample, rng: np.random.Generator, partners: Partners) -> Sample:
        """The sample with objects of another one."""
        check_mixable(sample, "CopyPaste", ())
        if "instance_masks" not in sample:
            raise ValueError(
                f"CopyPaste: expected instance masks, got none in {sample['meta']['path']}; set"
                " instance_masks: true if the data set has outlines"
            )
        if rng.random() >= self.probability:
            return sample
        other = partners.draw(rng)
        sides = zip(sample["image"].shape[:2], other["image"].shape[:2], strict=True)
        window = [min(pair) for pair in sides]
        other = crop(other, [0, 0], window, min_visible=0.0)
        drawn = (other["instance_masks"] == 1).any(axis=(1, 2)) & ~other["crowd"]
        candidates = np.flatnonzero(drawn)
        if not len(candidates):
            return sample
        count = int(rng.integers(1, len(candidates) + 1))
        chosen = np.sort(rng.choice(candidates, count, replace=False))
        return paste(sample, select_boxes(other, chosen), self.min_visible)


def paste(sample: Sample, objects: Sample, min_visible: float = 0.0) -> Sample:
    """Pastes all objects of one sample over another.

    Args:
        sample: With instance masks.
        objects: Of the same size or smaller, at the top left of `sample`.
        min_visible: Drop objects of which a smaller share, or nothing, is left.
    """
    height, width = objects["image"].shape[:2]
    top_left = (..., slice(height), slice(width))
    shape = objects["instance_masks"].shape[0], *sample["image"].shape[:2]
    masks = np.zeros(shape, dtype=sample["instance_masks"].dtype)
    masks[top_left] = objects["instance_masks"]
    pasted = (masks == 1).any(axis=0)
    inside = pasted[:height, :width]
    out = _behind(sample, pasted, min_visible)
    out["image"] = sample["image"].copy()
    out["image"][:height, :width][inside] = objects["image"][inside]
    if "mask" in sample:
        out["mask"] = sample["mask"].copy()
        out["mask"][top_left][..., inside] = objects["mask"][..., inside]
    on_top = objects.copy()
    on_top["instance_masks"] = masks
    return with_rows(out, [out, on_top])


def _behind(sample: Sample, pasted: NDArray[Any], min_visible: float) -> Sample:
    """The objects of a sample without the pixels that are hidden."""
    out = sample.copy()
    before = (sample["instance_masks"] == 1).sum(axis=(1, 2))
    out["instance_masks"] = np.where(pasted, 0, sample["instance_masks"])
    after = (out["instance_masks"] == 1).sum(axis=(1, 2))
    out["boxes"] = sample["boxes"].copy()
    for row in np.flatnonzero((after < before) & (after > 0)):
        out["boxes"][row] = _extent(out["instance_masks"][row] == 1)
    # An object whose outline was broken has an empty mask; its box is all that is known.
    return select_boxes(out, (before == 0) | ((after > 0) & (after >= min_visible * before)))


def _extent(mask: NDArray[Any]) -> list[int]:
    """The xyxy box around the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
