"""The rules by which `densekit plan` proposes a configuration for volumes.

They follow nnU-Net's (Isensee et al. 2021, supplementary note 2) where the network allows it.

D spatial dimensions, z first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from densekit.data.fingerprint import Fingerprint

ANISOTROPIC = 3.0
"""Spacing of one axis over the next coarser one from which on slices count as far apart."""
SMALLEST_EDGE = 4
"""Voxels an axis keeps at the network's deepest level."""
HALVINGS = {"full": 3, "half": 4, "imagenet": 5}
"""Stem to the halvings of a ResNet with it."""
WIDTH = 32
"""Channels of the stem: a volume has an axis more than a picture."""
SHARE_OF_DATA = 0.05
"""Part of all voxels that a batch may have."""
AIR = -500
"""A stored value that only CT reaches, in Hounsfield units."""

Memory = Callable[["Network", tuple[int, ...], int], float]
"""GiB that a training step takes, by network, patch and number of patches."""


@dataclass(frozen=True)
class Network:
    """The settings of a ResNet that follow from the patch.

    Attributes:
        stem: See `densekit.backbones.ResNet`.
        hold: Halvings that each axis sits out.
    """

    stem: str
    hold: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each axis at the deepest level."""
        return tuple(2 ** max(0, HALVINGS[self.stem] - count) for count in self.hold)


@dataclass(frozen=True)
class Plan:
    """A proposal.

    Attributes:
        spacing: Millimetres to resample to.
        shape: Median of the volumes after that.
        patch: Voxels a training patch has.
        network: Of the backbone.
        batch_size: Patches a step.
        memory: GiB such a step is estimated to take.
        intensity: Rule of `densekit.data.intensity`.
    """

    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    patch: tuple[int, ...]
    network: Network
    batch_size: int
    memory: float
    intensity: dict[str, float | str]


def propose(found: Fingerprint, cases: int, budget: float, memory: Memory) -> Plan:
    """Applies every rule.

    Args:
        found: Of the data set.
        cases: Number of training volumes.
        budget: GiB a training step may take.
        memory: Estimates them.
    """
    spacing = target_spacing(found)
    shape = network_shape(found, spacing)
    hold = held_axes(spacing)
    network = Network(choose_stem(shape, hold), hold)
    patch = choose_patch(shape, network, budget, memory)
    batch, ceiling = 2, SHARE_OF_DATA * cases * math.prod(shape) / math.prod(patch)
    while batch + 1 <= ceiling and memory(network, patch, batch + 1) <= budget:
        batch += 1
    used = memory(network, patch, batch)
    return Plan(spacing, shape, patch, network, batch, used, intensity_rule(found))


def target_spacing(found: Fingerprint) -> tuple[float, ...]:
    """The median of each axis; a far coarser axis takes the finest tenth of the cases instead."""
    median = np.median(found.spacings, axis=0)
    worst = int(median.argmax())
    others = np.delete(median, worst)
    if median[worst] > ANISOTROPIC * others.max(initial=0):
        finest = np.percentile(found.spacings[:, worst], 10)
        median[worst] = max(finest, others.max())
    return tuple(round(float(value), 4) for value in median)


def network_shape(found: Fingerprint, spacing: Sequence[float]) -> tuple[int, ...]:
    """Median size after resampling."""
    resampled = found.shapes * found.spacings / np.asarray(spacing)
    return tuple(max(1, round(float(side))) for side in np.median(resampled, axis=0))


def held_axes(spacing: Sequence[float]) -> tuple[int, ...]:
    """Halvings that a coarse axis sits out until its voxels are about as large as the others'."""
    finest = min(spacing)
    return tuple(max(0, round(math.log2(value / finest))) for value in spacing)


def choose_stem(shape: Sequence[int], hold: Sequence[int]) -> str:
    """The stem that goes deepest while every axis keeps `SMALLEST_EDGE` voxels."""
    fitting = [
        stem
        for stem in HALVINGS
        if all(
            -(-side // stride) >= min(SMALLEST_EDGE, side)
            for side, stride in zip(shape, Network(stem, tuple(hold)).strides, strict=True)
        )
    ]
    return fitting[-1] if fitting else "full"


def choose_patch(
    shape: Sequence[int], network: Network, budget: float, memory: Memory
) -> tuple[int, ...]:
    """The median volume, made smaller along its longest axis until two patches fit the budget."""
    strides = network.strides
    patch = [-(-side // stride) * stride for side, stride in zip(shape, strides, strict=True)]
    while memory(network, tuple(patch), 2) > budget:
        room = [side - SMALLEST_EDGE * stride for side, stride in zip(patch, strides, strict=True)]
        if max(room) <= 0:
            break
        ratios = [
            side / whole if left > 0 else 0.0
            for side, whole, left in zip(patch, shape, room, strict=True)
        ]
        longest = max(range(len(patch)), key=lambda axis: (ratios[axis], patch[axis]))
        patch[longest] -= strides[longest]
    return tuple(patch)


def intensity_rule(found: Fingerprint) -> dict[str, float | str]:
    """CT, which has a unit, is cut to what the foreground shows; other images have z-scores."""
    if found.lowest > AIR:
        return {"kind": "zscore"}
    low, high = float(found.percentiles[:, 0].min()), float(found.percentiles[:, 2].max())
    return {"kind": "window", "level": round((low + high) / 2, 1), "width": round(high - low, 1)}
