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
CT = re.compile(r"(^|[^a-z])(nc|ce|cb|ld|hr)?cta?([^a-z]|$)|computed.tomography")
"""Names of a channel that is CT: `CT`, `CTA`, `NCCT`, `ct_portal`."""
BY_NAME: Mapping[str, Rule] = {
    "nonorm": {"kind": "range", "low": 0.0, "high": 1.0},
    "rescale_to_0_1": {"kind": "percentile", "low": 0.0, "high": 100.0},
    "rgb_to_0_1": {"kind": "range", "low": 0.0, "high": 255.0},
}
"""nnU-Net's names of a channel that ask for a scaling instead of saying what it shows."""
STEPS = 10_000
"""Training steps that are proposed: a tenth shows whether it learns, more is better."""
VALIDATIONS = 50
"""Validations of such a run; each reads every volume of `val`."""

Memory = Callable[["Network", tuple[int, ...], int], float]
"""GiB that a training step takes, by network, patch and number of patches."""


@dataclass(frozen=True)
class Network:
    """The settings of a ResNet that follow from the patch.

    Attributes:
        stem: See `densekit.backbones.ResNet`.
        skip_downsampling: Downsamplings that each axis skips.
    """

    stem: str
    skip_downsampling: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each axis at the deepest level."""
        return tuple(2 ** max(0, HALVINGS[self.stem] - count) for count in self.skip_downsampling)


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
        intensity: Rule of `densekit.data.reading.intensity`.
        epochs: Of the training volumes.
        epochs_per_validation: Distance of two validations.
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
        budget: GiB a training step may take.
        memory: Estimates them.

    Raises:
        ValueError: If the smallest step takes more.
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
    """The deepest network with the largest patch that two of fit the budget, else one of.

    Raises:
        ValueError: If not even one does; names the least memory.
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
        f"memory: expected at least {math.ceil(least * 100) / 100:.2f} GiB, which a step of the"
        f" smallest patch takes, got {budget:g}; or set backbone.width to less than {WIDTH}"
    )


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


def stems(shape: Sequence[int], skips: Sequence[int]) -> list[str]:
    """Those with which every axis keeps `SMALLEST_EDGE` voxels, the deepest first."""
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
    """The whole volume along short axes, `SMALLEST_EDGE` voxels at the deepest level of others."""
    whole = _whole(shape, network)
    edges = [SMALLEST_EDGE * stride for stride in network.strides]
    return tuple(min(pair) for pair in zip(whole, edges, strict=True))


def choose_patch(
    shape: Sequence[int], network: Network, budget: float, memory: Memory, batch: int
) -> tuple[int, ...]:
    """The median volume, made smaller along its longest axis until the batch fits the budget."""
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
    """A volume, each side rounded up to the network's stride."""
    pairs = zip(shape, network.strides, strict=True)
    return [-(-side // stride) * stride for side, stride in pairs]


def intensity_rule(found: Fingerprint) -> Rule:
    """One rule for all channels where they are alike, else a rule a channel."""
    rules = [channel_rule(found, channel) for channel in range(len(found.percentiles))]
    if all(rule == rules[0] for rule in rules):
        return rules[0]
    return {"kind": PER_CHANNEL, "rules": rules}


def channel_rule(found: Fingerprint, channel: int) -> Rule:
    """By what the channel is, else by its values.

    CT has a unit: it is cut to what the foreground shows and scaled by the data set's numbers.
    Others (MR, PET, ultrasound) have none that holds from one volume to the next: each volume has
    z-scores of its own.
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
