"""Samplers: the images of a batch as a pure function of seed, epoch and number of processes.

A draw is `(epoch, index, valid)`: all that a worker needs to make the same sample in any process.
N images, I identities, G images of a global batch (all processes together).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from densekit._names import counted
from densekit.ops import dist

Draw = tuple[int, int, bool]

_ROUNDING = 1e-6
"""More than the error of a sum of factors, far less than a draw."""


class TrainSampler(Sampler[list[Draw]]):
    """Yields shuffled batches without end, from any position; processes share a global batch.

    Rank r takes items r, r + world, ... of each global batch, so that with the same global batch
    any number of processes sees the same images in every step. The images that do not fill the
    last batch of an epoch are left out of it (another epoch leaves out others); a data set
    smaller than one batch is repeated to fill it.

    Args:
        length: N.
        batch_size: Images per batch of one process.
        seed: Seed of the order.
        groups: (N,) group of each image; batches hold one group as far as possible (separating
            wide from tall images saves padding).
        repeats: Number of times that a batch holds each of its images, each augmented anew (Hoffer
            et al. 2020, "Augment your batch"); the second draw of image i has the index i + N. An
            epoch stays N draws.
        factors: (N,) mean number of draws of each image per epoch, each rounded at random to a
            whole number; the k-th further draw of image i has the index i + k N. An epoch has their
            sum of draws. None draws each image once.

    Raises:
        ValueError: If there are no images, `repeats` does not divide the batch size, there are both
            `repeats` and `factors`, or the factors are not N numbers that make up a draw.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        groups: NDArray[Any] | None = None,
        repeats: int = 1,
        factors: NDArray[np.float64] | None = None,
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(
                f"batch_size: expected at least 1 and at least one image, got {batch_size} and"
                f" {counted(length, 'image')}"
            )
        if repeats < 1 or batch_size % repeats:
            raise ValueError(
                f"repeats: expected a divisor of the batch size {batch_size}, got {repeats}"
            )
        if factors is not None and repeats > 1:
            raise ValueError(f"repeats: expected 1 beside factors (`sampling`), got {repeats}")
        if factors is not None:
            _check_factors(factors, length)
        self._repeats = repeats
        self._position = 0, 0
        self._count: int | None = None
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._groups = groups
        self._factors = factors
        self._draws = length if factors is None else int(factors.sum() + _ROUNDING)

    def __len__(self) -> int:
        """Number of batches that one process takes per epoch."""
        return max(1, self._draws // (self._batch_size * dist.world_size()))

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yields this process's part of each batch."""
        count = len(self) if self._count is None else self._count
        return itertools.islice(self._endless(*self._position), count)

    def go_to(self, epoch: int, start: int, count: int) -> None:
        """Makes the next pass yield `count` batches from batch `start` of `epoch`."""
        self._position, self._count = (epoch, start), count

    def _endless(self, epoch: int, start: int) -> Iterator[list[Draw]]:
        rank, world = dist.rank(), dist.world_size()
        while True:
            for batch in self._global_batches(epoch, self._batch_size * world)[start:]:
                yield [(epoch, int(index), True) for index in batch[rank::world]]
            epoch, start = epoch + 1, 0

    def _global_batches(self, epoch: int, size: int) -> NDArray[Any]:
        """(batches, G) indices of an epoch."""
        distinct = self._distinct(epoch, size // self._repeats)[: max(1, self._draws // size)]
        return np.concatenate([distinct + n * self._length for n in range(self._repeats)], axis=1)

    def _distinct(self, epoch: int, size: int) -> NDArray[Any]:
        """(batches, G / repeats) distinct images of an epoch."""
        rng = np.random.default_rng((self._seed, epoch))
        if self._factors is None:
            order = rng.permutation(self._length)
        else:
            order = repeated(self._factors, rng)
        if len(order) < size:
            return np.resize(order, (1, size))
        if self._groups is not None:
            order = _grouped(order, self._groups[order % self._length], size)
        count = len(order) // size
        batches = order[: count * size].reshape(count, size)
        return batches if self._groups is None else batches[rng.permutation(count)]


class EvalSampler(Sampler[list[Draw]]):
    """Yields every image once, in order, with equally many batches on every process.

    If the images do not divide evenly, the last ones of some processes are repeats marked invalid,
    which no metric counts.

    Args:
        length: Number of images.
        batch_size: Images per batch of one process.
    """

    def __init__(self, length: int, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"eval_batch_size: expected at least 1, got {batch_size}")
        self._length = length
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-self._per_process() // self._batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        rank, world = dist.rank(), dist.world_size()
        indices = [rank + world * i for i in range(self._per_process())]
        draws = [(0, index % self._length, index < self._length) for index in indices]
        for start in range(0, len(draws), self._batch_size):
            yield draws[start : start + self._batch_size]

    def _per_process(self) -> int:
        return -(-self._length // dist.world_size())


def aspect_groups(sizes: NDArray[Any]) -> NDArray[Any]:
    """(N,) 0 for tall images and 1 for wide or square ones, from (N, 2) heights and widths.

    Raises:
        ValueError: If the images do not have two dimensions.
    """
    if sizes.shape[1] != 2:
        raise ValueError(f"group_by_aspect: expected images of 2 dimensions, got {sizes.shape[1]}")
    groups: NDArray[Any] = (sizes[:, 1] >= sizes[:, 0]).astype(np.int64)
    return groups


def _check_factors(factors: NDArray[np.float64], length: int) -> None:
    if factors.shape != (length,):
        raise ValueError(f"sampling: expected {length} factors, got shape {factors.shape}")
    if not (np.isfinite(factors) & (factors >= 0)).all() or factors.sum() < 1:
        raise ValueError(
            "sampling: expected factors of at least 0 that add up to a draw or more, got"
            f" {factors.min()} to {factors.max()}, in total {factors.sum()}"
        )


def repeated(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The draws of an epoch in random order; the k-th further draw of image i is i + k N.

    Each image is drawn its factor rounded down or up, up with the probability of the fraction. The
    total is fixed (systematic sampling), so that all epochs are equally long.

    Args:
        factors: (N,) mean number of draws of each image.
        rng: Rounds and shuffles.
    """
    images = rng.permutation(len(factors))
    ends = np.floor(np.cumsum(factors[images]) + rng.random() + 2 * _ROUNDING).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    further = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    return rng.permutation(np.repeat(images, counts) + further * len(factors))


def _grouped(order: NDArray[Any], groups: NDArray[Any], size: int) -> NDArray[Any]:
    """The order rearranged: runs of `size` images of one group first, the mixed rest last.

    Args:
        order: Draws.
        groups: The group of each draw.
        size: Images of a batch.
    """
    full, rest = [], []
    for group in np.unique(groups):
        members = order[groups == group]
        end = len(members) // size * size
        full.append(members[:end])
        rest.append(members[end:])
    return np.concatenate([*full, *rest])


class IdentitySampler(TrainSampler):
    """Yields global batches of K images of each of P identities, for losses that compare images.

    G = P K. An epoch goes through the identities in random order, repeatedly, until it has as many
    batches as the images fill. At each turn an identity gives its next K images in its own random
    order; one with fewer images repeats them.

    Args:
        labels: (N,) identity of each image, 0..I-1.
        batch_size: Images per batch of one process.
        images_per_identity: K.
        seed: Seed of the order.

    Raises:
        ValueError: If K does not divide the batch size, or there are fewer identities than a batch
            needs.
    """

    def __init__(
        self, labels: NDArray[Any], batch_size: int, images_per_identity: int, seed: int
    ) -> None:
        super().__init__(len(labels), batch_size, seed)
        if images_per_identity < 1 or batch_size % images_per_identity:
            raise ValueError(
                f"images_per_identity: expected a divisor of the batch size {batch_size}, got"
                f" {images_per_identity}"
            )
        self._images_each = images_per_identity
        self._by_identity = np.argsort(labels, kind="stable")
        self._counts = np.bincount(labels)
        self._identities = np.flatnonzero(self._counts)
        needed = batch_size * dist.world_size() // images_per_identity
        if len(self._identities) < needed:
            raise ValueError(
                f"images_per_identity: expected {needed} identities for a batch of"
                f" {batch_size * dist.world_size()} images, got {len(self._identities)}"
            )

    def _global_batches(self, epoch: int, size: int) -> NDArray[Any]:
        """(batches, G) image indices of an epoch."""
        rng = np.random.default_rng((self._seed, epoch))
        each, count = self._images_each, max(1, self._length // size)
        identities = size // each  # P
        per_round = len(self._identities) // identities  # batches before the order is drawn anew
        rounds = -(-count // per_round)
        chosen = np.concatenate(
            [rng.permutation(self._identities)[: per_round * identities] for _ in range(rounds)]
        )[: count * identities]
        turn = np.repeat(np.arange(rounds), per_round * identities)[: count * identities]
        shuffled = self._shuffled(rng)
        start = np.cumsum(self._counts) - self._counts
        offset = (turn[:, None] * each + np.arange(each)) % self._counts[chosen][:, None]
        batches: NDArray[Any] = shuffled[start[chosen][:, None] + offset].reshape(count, size)
        return batches

    def _shuffled(self, rng: np.random.Generator) -> NDArray[Any]:
        """(N,) images grouped by identity, in random order within each identity."""
        group = np.repeat(np.arange(len(self._counts)), self._counts)
        order = np.lexsort((rng.random(self._length), group))
        shuffled: NDArray[Any] = self._by_identity[order]
        return shuffled
