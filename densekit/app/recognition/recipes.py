"""The settings with which each task begins: what a person would try first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLIP = {"_target_": "densekit.data.Augment", "steps": {"HorizontalFlip": {"p": 0.5}}}
ADAMW = ("optimizer=adamw", "optimizer.lr=1e-3", "schedule=onecycle")
STEPS = 1500
"""Training steps that a small data set is given."""
EPOCHS = (12, 100)
"""Fewest and most epochs that are proposed."""


@dataclass(frozen=True)
class Recipe:
    """How a data set is trained.

    Attributes:
        heads: Names of the heads that it trains.
        resize: The rule of what the network sees; None leaves images as they are.
        transform: Of training images; None for none.
        batch_size: Training images per step.
        words: Choices of the command.
        source: Further arguments of the `Source`.
        inferer: How whole images are predicted; None for the default.
    """

    heads: Sequence[str]
    resize: dict[str, Any] | None
    transform: dict[str, Any] | None
    batch_size: int
    words: Sequence[str]
    source: dict[str, Any]
    inferer: dict[str, Any] | None = None


def recipe_of(task: str, sizes: NDArray[Any], count: int) -> Recipe:
    """The recipe of a task.

    Args:
        task: Key of `RECIPES`.
        sizes: (N, D) sides of a sample of the images; may be empty.
        count: Number of training images.
    """
    median = np.median(sizes, axis=0) if len(sizes) else np.empty(0)
    return RECIPES[task]([int(side) for side in median], count)


def epochs(count: int, batch_size: int) -> int:
    """The number of epochs that gives a small data set enough steps."""
    steps = max(1, count // batch_size)
    return min(max(math.ceil(STEPS / steps), EPOCHS[0]), EPOCHS[1])


def _boxes(size: Sequence[int], count: int) -> Recipe:
    resize = {
        "_target_": "densekit.data.Resize",
        "min_sizes": ["${resize.min_size}"],
        "max_size": "${resize.max_size}",
    }
    return Recipe(
        ["detection"],
        {"min_size": 480, "max_size": 800},
        {"_target_": "densekit.data.Chain", "steps": {"augment": FLIP, "resize": resize}},
        min(4, count),
        ["head=faster_rcnn", "optimizer.lr=0.005"],
        {},
    )


def _masks(size: Sequence[int], count: int) -> Recipe:
    side = _multiple(min([*size, 256]), 32)
    patch = {"_target_": "densekit.data.Patch", "size": [side, side], "balanced": 0.33}
    return Recipe(
        ["segmentation"],
        None,
        {"_target_": "densekit.data.Chain", "steps": {"augment": FLIP, "patch": patch}},
        min(8, count),
        ["head=unet", "neck=none", "metrics=segmentation", *ADAMW],
        {},
    )


def _volumes(size: Sequence[int], count: int) -> Recipe:
    patch = [_multiple(min(side, 96), 16) for side in size] or [64, 64, 64]
    crop = {"_target_": "densekit.data.Patch", "size": patch, "balanced": 0.33}
    large = any(side > 1.5 * own for side, own in zip(size, patch, strict=False))
    window = {"_target_": "densekit.inference.SlidingWindow", "window": patch}
    return Recipe(
        ["segmentation"],
        None,
        {"_target_": "densekit.data.Chain", "steps": {"patch": crop}},
        min(2, count),
        [
            "head=unet",
            "neck=none",
            "backbone.stem=half",
            "backbone.width=24",
            "metrics=medical",
            *ADAMW,
        ],
        {},
        window if large else None,
    )


def _classes(size: Sequence[int], count: int) -> Recipe:
    side = _multiple(min([*size, 224]), 32)
    crop = {"RandomResizedCrop": {"size": side}, "RandomHorizontalFlip": {}}
    return Recipe(
        ["classification"],
        {"min_size": side + side // 7, "crop": side, "antialias": True},
        {"_target_": "densekit.data.TorchvisionAugment", "steps": crop},
        min(32, count),
        ["head=classification", "neck=none", "metrics=classification", *ADAMW],
        {"eval_batch_size": 32},
    )


def _series(size: Sequence[int], count: int) -> Recipe:
    backbone = ["backbone.stem=full", "backbone.output_stride=2", "backbone.width=16"]
    words = ["head=classification", "neck=none", "metrics=classification", *backbone, *ADAMW]
    return Recipe(["classification"], None, None, min(16, count), words, {"eval_batch_size": 64})


def _sequences(size: Sequence[int], count: int) -> Recipe:
    backbone = ["backbone.stem=half", "backbone.width=32"]
    words = ["head=classification", "neck=none", "metrics=classification", *backbone, *ADAMW]
    return Recipe(["classification"], None, None, min(64, count), words, {"eval_batch_size": 256})


def _identities(size: Sequence[int], count: int) -> Recipe:
    resize = {"min_size": 112, "crop": 112, "antialias": True}
    words = ["head=embedding", "neck=none", "metrics=verification", *ADAMW]
    return Recipe(["identity"], resize, FLIP, min(32, count), words, {"eval_batch_size": 32})


def _multiple(side: int, of: int) -> int:
    """The largest multiple that is not larger than the side; at least one."""
    return max(of, side // of * of)


RECIPES: dict[str, Callable[[Sequence[int], int], Recipe]] = {
    "boxes": _boxes,
    "masks": _masks,
    "volumes": _volumes,
    "classes": _classes,
    "series": _series,
    "sequences": _sequences,
    "identities": _identities,
}
"""Task to its recipe, given the median size of its images and the number of training images."""
