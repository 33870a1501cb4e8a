"""Batches of P identities with K images each, for losses that compare images.

N images, I identities, G images of a global batch (all processes together), G = P K.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.samplers import TrainSampler
from densekit.ops import dist


class IdentitySampler(TrainSampler):
    """A `TrainSampler` whose global batches hold K images of each of P different identities.

    An epoch goes through the identities in random order, again and again until it has as many
    batches as the images fill. Every time an identity's turn comes it gives its next K images in a
    random order of its own; one with fewer repeats them.

    Args:
        labels: (N,) identity of each image, 0..I-1.
        batch_size: Images a batch of one process.
        images_per_identity: K.
        seed: Of the order.

    Raises:
        ValueError: K is no divisor of the batch size, or there are fewer identities than a batch
            needs.
    """

    def __init__(
        self, labels: NDArray[Any], batch_size: int, images_per_identity: int, seed: int
    ) -> None:
        super().__init__(len(labels), batch_size, seed)
        if images_per_identity < 1 or batch_size % images_per_identity:
            raise ValueError(
                f"images_per_identity: found {images_per_identity}, accepted are divisors of the"
                f" batch size, {batch_size}"
            )
        self._images_each = images_per_identity
        self._by_identity = np.argsort(labels, kind="stable")
        self._counts = np.bincount(labels)
        self._identities = np.flatnonzero(self._counts)
        needed = batch_size * dist.world_size() // images_per_identity
        if len(self._identities) < needed:
            raise ValueError(
                f"images_per_identity: a batch of {batch_size * dist.world_size()} images needs"
                f" {needed} identities, the data have {len(self._identities)}"
            )

    def _global_batches(self, epoch: int, size: int) -> NDArray[Any]:
        """(batches, G) image indices of an epoch."""
        rng = np.random.default_rng((self._seed, epoch))
        each, count = self._images_each, max(1, self._length // size)
        people = size // each  # P
        a_round = len(self._identities) // people  # batches before the order is drawn anew
        rounds = -(-count // a_round)
        chosen = np.concatenate(
            [rng.permutation(self._identities)[: a_round * people] for _ in range(rounds)]
        )[: count * people]
        turn = np.repeat(np.arange(rounds), a_round * people)[: count * people]
        shuffled = self._shuffled(rng)
        start = np.cumsum(self._counts) - self._counts
        place = (turn[:, None] * each + np.arange(each)) % self._counts[chosen][:, None]
        batches: NDArray[Any] = shuffled[start[chosen][:, None] + place].reshape(count, size)
        return batches

    def _shuffled(self, rng: np.random.Generator) -> NDArray[Any]:
        """(N,) images grouped by identity, in random order within each."""
        group = np.repeat(np.arange(len(self._counts)), self._counts)
        order = np.lexsort((rng.random(self._length), group))
        shuffled: NDArray[Any] = self._by_identity[order]
        return shuffled
