"""The rules by which `densekit plan` proposes a configuration for boxes.

N images, M objects of all images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.app.planning.boxes.reach import resized
from densekit.data.box_fingerprint import BoxFingerprint
from densekit.data.samplers import aspect_groups
from densekit.ops.resize import ResizeRule

SMALL, AMPLE = 32, 64
"""Pixels: images are enlarged until `small_side` is the first, and large ones are not reduced below
the second."""
USUAL = 800
"""Shorter side up to which images are enlarged, and large ones are reduced if they may."""
LARGEST_FACTOR = 2.0
LONGEST = 5 / 3
"""Longer side over shorter side of the resize rule, as in 1333 / 800."""
MULTIPLE, SMALLEST_SIDE = 32, 64
SHRINK = 0.8
"""Factor of the shorter side as long as a step does not fit."""
LARGEST_BATCH, SHARE_OF_IMAGES = 16, 0.05
SAVED_PADDING = 0.05
"""Share of a batch's pixels from which grouping by aspect is proposed."""
SEEN, FEWEST_EPOCHS = 10_000, 12
"""Images that a training sees, and passes over the data at least (COCO's 1x schedule)."""
FEW = 5
"""Objects below which a class does not count for the resize rule."""
VALIDATIONS = 20

Memory = Callable[[int, int, int], float]
"""GiB that a training step takes, by height, width and number of images."""


@dataclass(frozen=True)
class Plan:
    """A proposed configuration.

    Attributes:
        resize: Of the images; None as they are stored.
        batch_size: Images per step.
        memory: Estimated GiB per step.
        group_by_aspect: Whether batches hold either wide or tall images.
        padding: Share of a batch's pixels that is padding, without and with groups.
        epochs: Over the training images.
        epochs_per_validation: Epochs between two validations.
    """

    resize: ResizeRule | None
    batch_size: int
    memory: float
    group_by_aspect: bool
    padding: tuple[float, float]
    epochs: int
    epochs_per_validation: int


def propose(
    found: BoxFingerprint, images: int, rule: ResizeRule | None, budget: float, memory: Memory
) -> Plan:
    """Chooses what fits into memory at a resize rule, or at a smaller one.

    Args:
        found: Of the data set.
        images: Number of training images.
        rule: See `resize_rule`.
        budget: GiB that a training step may take.
        memory: Estimates the GiB of a step.

    Raises:
        ValueError: Not even one image of the smallest size fits.
    """
    rule, batch = fitted_batch(found, rule, budget, memory)
    height, width = largest(found, rule)
    ceiling = min(LARGEST_BATCH, max(2, round(SHARE_OF_IMAGES * images)))
    while batch < ceiling and memory(height, width, batch + 1) <= budget:
        batch += 1
    padding = padded_share(found, rule, batch)
    epochs = max(FEWEST_EPOCHS, math.ceil(SEEN / images))
    return Plan(
        resize=rule,
        batch_size=batch,
        memory=memory(height, width, batch),
        group_by_aspect=padding[0] - padding[1] >= SAVED_PADDING,
        padding=padding,
        epochs=epochs,
        epochs_per_validation=max(1, epochs // VALIDATIONS),
    )


def resize_rule(found: BoxFingerprint) -> ResizeRule | None:
    """Enlarges images of small objects, reduces large ones of large objects; None for neither."""
    side = small_side(found, np.ones(len(found.sizes)))
    stored = float(np.median(found.sizes.min(1)))
    factor = 1.0
    if side < SMALL:
        factor = min(SMALL / max(side, 1.0), LARGEST_FACTOR, max(1.0, USUAL / stored))
    elif stored > USUAL:
        factor = min(1.0, max(USUAL / stored, AMPLE / side))
    if factor == 1.0 and len(np.unique(found.sizes, axis=0)) == 1:
        return None
    return rule_of(factor * stored)


def small_side(found: BoxFingerprint, scales: NDArray[Any]) -> float:
    """The side in pixels, square root of the area, that counts as that of small objects.

    A tenth of all objects are smaller, or half of those of some class.
    """
    sides = np.sqrt(found.sides(scales).prod(1))
    classes = [sides[found.labels == label] for label in np.unique(found.labels)]
    halves = [float(np.median(own)) for own in classes if len(own) >= FEW]
    return min([float(np.quantile(sides, 0.1)), *halves])


def rule_of(shorter: float) -> ResizeRule:
    """The rule with a shorter side, rounded to a multiple."""
    side = max(SMALLEST_SIDE, round(shorter / MULTIPLE) * MULTIPLE)
    return {"min_size": side, "max_size": math.ceil(side * LONGEST)}


def fitted_batch(
    found: BoxFingerprint, rule: ResizeRule | None, budget: float, memory: Memory
) -> tuple[ResizeRule | None, int]:
    """The resize rule, its shorter side reduced until two images fit, else one.

    Raises:
        ValueError: Not even one image of the smallest size fits; names the least memory.
    """
    least = memory(*largest(found, rule_of(SMALLEST_SIDE)), 1)
    if least > budget:
        raise ValueError(
            f"memory: expected at least {math.ceil(least * 100) / 100:.2f} GiB for a step with an"
            f" image of {SMALLEST_SIDE} pixels, got {budget:g}; or choose a smaller backbone"
        )
    for batch in (2, 1):
        tried = rule
        side = float(rule["min_size"] if rule else np.median(found.sizes.min(1)))
        while side > SMALLEST_SIDE:
            if memory(*largest(found, tried), batch) <= budget:
                return tried, batch
            side *= SHRINK
            tried = rule_of(side)
    return rule_of(SMALLEST_SIDE), 1


def largest(found: BoxFingerprint, rule: ResizeRule | None) -> tuple[int, int]:
    """The height and the width that hold every image."""
    height, width = resized(found.sizes, rule).max(0)
    return int(height), int(width)


def padded_share(found: BoxFingerprint, rule: ResizeRule | None, batch: int) -> tuple[float, float]:
    """Mean share of a batch's pixels that is padding: any images, and either wide or tall ones."""
    sizes = resized(found.sizes, rule)
    groups = aspect_groups(sizes)
    parts = [sizes[groups == group] for group in np.unique(groups)]
    grouped = sum(len(part) / len(sizes) * _padding(part, batch) for part in parts)
    return _padding(sizes, batch), grouped


def _padding(sizes: NDArray[Any], batch: int) -> float:
    """Mean over batches that are drawn with a fixed seed."""
    drawn = sizes[np.random.default_rng(0).integers(len(sizes), size=(200, batch))]  # (200, B, 2)
    used = drawn.prod(2).sum(1)
    return float((1 - used / (batch * drawn.max(1).prod(1))).mean())
