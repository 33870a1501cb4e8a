"""Augmentation of volumes, their slices and series, by name.

C channels, P planes of the mask, S the D sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from densekit._names import check_keys
from densekit.data.transforms.monai import MonaiStep
from densekit.data.transforms.volume_steps import STEPS, Step
from densekit.types import Sample

_MOVED = {"image", "mask", "category", "identity", "index", "meta", "truth"}
"""Keys that a transform moves, or that do not depend on positions."""


class VolumeAugment:
    """Random transforms of an image and its mask, selected by name.

        steps:
          RandFlip: {prob: 0.5, spatial_axis: 0}
          RandAffine: {prob: 0.2, rotate_range: 0.26, scale_range: 0.1}
          RandGaussianNoise: {prob: 0.15, std: 0.1}
          RandGaussianSmooth: {prob: 0.1}

    `RandFlip`, `RandAffine`, `RandGaussianNoise`, `RandScaleIntensity`, `RandShiftIntensity` and
    `RandAdjustContrast` are densekit's own (see `volume_steps`), fast enough for two cores; any
    other name is that of a MONAI dictionary transform (without its `d`), which is then imported.
    They run in the order of the mapping; a suffix after an underscore distinguishes steps of the
    same name (`RandFlip_z`, `RandFlip_x`). Voxels that a transform fills in are ignored.

    Args:
        steps: Name of a transform to its arguments.

    Raises:
        ValueError: For an unknown name or argument, with the nearest.
    """

    def __init__(self, steps: Mapping[str, Mapping[str, Any] | None]) -> None:
        self._steps = [_build(name, arguments or {}) for name, arguments in steps.items()]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The augmented sample; all randomness comes from the generator.

        Raises:
            ValueError: If the sample has targets besides a mask, which would not follow the image.
        """
        if left := sorted(set(sample) - _MOVED):
            raise ValueError(f"VolumeAugment: expected no targets besides a mask, got {left}")
        image = np.moveaxis(np.asarray(sample["image"], dtype=np.float32), -1, 0)  # (C, *S)
        given = sample.get("mask", np.zeros(image.shape[1:], dtype=np.uint8))
        mask = np.asarray(given).reshape(-1, *image.shape[1:])  # (P, *S)
        for step in self._steps:
            image, mask = step(image, mask, rng)
        out = sample.copy()
        out["image"] = np.ascontiguousarray(np.moveaxis(image, 0, -1))
        if "mask" in sample:
            out["mask"] = np.ascontiguousarray(mask if given.ndim == mask.ndim else mask[0])
        return out


def _build(name: str, arguments: Mapping[str, Any]) -> Step:
    plain, key = name.partition("_")[0], "VolumeAugment.steps"
    if plain not in STEPS:
        return MonaiStep(plain, arguments, key)
    check_keys(f"{key}.{name}", arguments, inspect.signature(STEPS[plain]).parameters)
    return STEPS[plain](**arguments)
