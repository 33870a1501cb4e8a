"""The rules by which `densekit plan` proposes a configuration for volumes.

They follow nnU-Net's (Isensee et al. 2021, supplementary note 2) where the network allows it.

D spatial dimensions, z first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from densekit.data.fingerprint import Fingerprint
from densekit.data.reading.intensity import PER_CHANNEL, Rule

ANISOTROPIC = 3.0
"""Ratio of the coarsest spacing to the next above which slices count as far apart."""
SMALLEST_EDGE = 4
"""Voxels that every axis keeps at the network's deepest level."""
HALVINGS = {"full": 3, "half": 4, "imagenet": 5}
"""Stem to the number of halvings of a ResNet with it."""
WIDTH = 32
"""Channels of the stem, fewer than in 2-D because volumes have one axis more."""
SHARE_OF_DATA = 0.05
"""Share of all voxels that a batch may have."""
AIR = -500
"""A stored value that only CT reaches, in Hounsfield units."""
CT = re.compile(r"(^|[^a-z])(nc|ce|cb|ld|hr)?cta?([^a-z]|$)|computed.tomography")
"""Channel names that mean CT: `CT`, `CTA`, `NCCT`, `ct_portal`."""
BY_NAME: Mapping[str, Rule] = {
    "nonorm": {"kind": "range", "low": 0.0, "high": 1.0},
    "rescale_to_0_1": {"kind": "percentile", "low": 0.0, "high": 100.0},
    "rgb_to_0_1": {"kind": "range", "low": 0.0, "high": 255.0},
}
"""nnU-Net's channel names that request a scaling instead of naming a modality."""
STEPS = 10_000
"""Proposed training steps; a tenth shows whether it learns, more is better."""
VALIDATIONS = 50
"""Proposed number of validations; each reads every volume of `val`."""

Memory = Callable[["Network", tuple[int, ...], int], float]
"""GiB that a training step takes, by network, patch and number of patches."""


@dataclass(frozen=True)
class Network:
    """The settings of a ResNet that follow from the patch.

    Attributes:
        stem: See `densekit.backbones.ResNet`.
        skip_downsampling: Number of downsamplings that each axis skips.
    """

    stem: str
    skip_downsampling: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each axis at the deepest level."""
        return tuple(2 ** max(0, HALVINGS[self.stem] - count) for count in self.skip_downsampling)


@dataclass(frozen=True)
class Plan:
    """A proposed configuration.

    Attributes:
        spacing: Millimetres to resample to.
        shape: Median size of the resampled volumes.
        patch: Size of a training patch in voxels.
        network: Settings of the backbone.
        batch_size: Patches per step.
        memory: Estimated GiB per step.
        intensity: Rule of `densekit.data.reading.intensity`.
        epochs: Over the training volumes.
        epochs_per_validation: Epochs between two validations.
    """

    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    patch: tuple[int, ...]
    network: Network
    batch_size: int
    memory: float
    intensity: Rule
    epochs: int
    epochs_per_validation: int


def propose(found: Fingerprint, cases: int, budget: float, memory: Memory) -> Plan:
    """Applies every rule.

    Args:
        found: Of the data set.
        cases: Number of training volumes.
        budget: GiB that a training step may take.
        memory: Estimates the GiB of a step.

    Raises:
        ValueError: Even the smallest step takes more.
    """
    spacing = target_spacing(found)
    shape = network_shape(found, spacing)
    network, patch, batch = fit(shape, held_axes(spacing), budget, memory)
    ceiling = SHARE_OF_DATA * cases * math.prod(shape) / math.prod(patch)
    while batch + 1 <= ceiling and memory(network, patch, batch + 1) <= budget:
        batch += 1
    epochs = math.ceil(STEPS * batch / cases)
    return Plan(
        spacing=spacing,
        shape=shape,
        patch=patch,
        network=network,
        batch_size=batch,
        memory=memory(network, patch, batch),
        intensity=intensity_rule(found),
        epochs=epochs,
        epochs_per_validation=max(1, epochs // VALIDATIONS),
    )


def fit(
    shape: Sequence[int], skips: tuple[int, ...], budget: float, memory: Memory
) -> tuple[Network, tuple[int, ...], int]:
    """Finds the deepest network and the largest patch so that two patches, else one, fit.

    Raises:
        ValueError: Not even one patch fits; names the least memory.
    """
    networks = [Network(stem, skips) for stem in stems(shape, skips)]
    least = math.inf
    for batch in (2, 1):
        for network in networks:
            smallest = memory(network, smallest_patch(shape, network), batch)
            least = min(least, smallest)
            if smallest <= budget:
                return network, choose_patch(shape, network, budget, memory, batch), batch
    raise ValueError(
        f"memory: expected at least {math.ceil(least * 100) / 100:.2f} GiB for a step with the"
        f" smallest patch, got {budget:g}; or set backbone.width to less than {WIDTH}"
    )


def target_spacing(found: Fingerprint) -> tuple[float, ...]:
    """Median spacing of each axis; for a far coarser axis, the 10th percentile of the cases."""
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
    """Number of halvings that a coarse axis skips until voxels are about isotropic."""
    finest = min(spacing)
    return tuple(max(0, round(math.log2(value / finest))) for value in spacing)


def stems(shape: Sequence[int], skips: Sequence[int]) -> list[str]:
    """Stems with which every axis keeps `SMALLEST_EDGE` voxels, the deepest first."""
    fitting = [
        stem
        for stem in HALVINGS
        if all(
            -(-side // stride) >= min(SMALLEST_EDGE, side)
            for side, stride in zip(shape, Network(stem, tuple(skips)).strides, strict=True)
        )
    ]
    return fitting[::-1] or ["full"]


def smallest_patch(shape: Sequence[int], network: Network) -> tuple[int, ...]:
    """The whole volume along short axes; else `SMALLEST_EDGE` voxels at the deepest level."""
    whole = _whole(shape, network)
    edges = [SMALLEST_EDGE * stride for stride in network.strides]
    return tuple(min(pair) for pair in zip(whole, edges, strict=True))


def choose_patch(
    shape: Sequence[int], network: Network, budget: float, memory: Memory, batch: int
) -> tuple[int, ...]:
    """The median volume, shrunk along its longest axis until the batch fits the budget."""
    strides, smallest = network.strides, smallest_patch(shape, network)
    patch = _whole(shape, network)
    while memory(network, tuple(patch), batch) > budget and tuple(patch) != smallest:
        ratios = [
            side / whole if side > least else 0.0
            for side, whole, least in zip(patch, shape, smallest, strict=True)
        ]
        longest = max(range(len(patch)), key=lambda axis: (ratios[axis], patch[axis]))
        patch[longest] -= strides[longest]
    return tuple(patch)


def _whole(shape: Sequence[int], network: Network) -> list[int]:
    """Rounds each side of a volume up to a multiple of the network's stride."""
    pairs = zip(shape, network.strides, strict=True)
    return [-(-side // stride) * stride for side, stride in pairs]


def intensity_rule(found: Fingerprint) -> Rule:
    """Returns one intensity rule for all channels if they agree, else one per channel."""
    rules = [channel_rule(found, channel) for channel in range(len(found.percentiles))]
    if all(rule == rules[0] for rule in rules):
        return rules[0]
    return {"kind": PER_CHANNEL, "rules": rules}


def channel_rule(found: Fingerprint, channel: int) -> Rule:
    """Chooses the rule of a channel by its name, else by its values.

    CT has a unit: it is clipped to the range of the foreground and scaled by the data set's
    statistics. Others (MR, PET, ultrasound) have no unit shared by all volumes: each volume is
    z-scored by itself.
    """
    named = found.modalities[channel].casefold() if found.modalities else ""
    if named in BY_NAME:
        return BY_NAME[named]
    if not (CT.search(named) if named else found.lowest[channel] <= AIR):
        return {"kind": "zscore"}
    low, _, high = (round(float(value), 1) for value in found.percentiles[channel])
    mean, std = (round(float(value[channel]), 1) for value in (found.means, found.stds))
    if low >= high or std <= 0:  # a foreground of one value
        return {"kind": "zscore"}
    return {"kind": "clip", "low": low, "high": high, "mean": mean, "std": std}
