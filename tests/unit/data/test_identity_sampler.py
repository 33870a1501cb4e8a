"""P x K batches: how many of whom, in one process and two, resumed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from densekit.data import IdentitySampler
from densekit.ops import dist

LABELS = np.repeat(np.arange(10), [2, 3, 4, 5, 6, 7, 8, 9, 10, 1])[::-1]


def batches(sampler, count=None):
    if count is not None:
        sampler.go_to(0, 0, count)
    return [[index for _, index, _ in batch] for batch in sampler]


@pytest.mark.parametrize("epoch", range(3))
def test_every_batch_has_k_images_of_each_of_p_identities(epoch):
    sampler = IdentitySampler(LABELS, 12, 3, seed=1)
    sampler.go_to(epoch, 0, len(sampler))
    found = [[index for _, index, _ in batch] for batch in sampler]
    assert len(found) == len(LABELS) // 12
    for batch in found:
        people, counts = np.unique(LABELS[batch], return_counts=True)
        assert len(people) == 4
        assert (counts == 3).all()
        for person in people:
            images = np.array(batch)[LABELS[batch] == person]
            assert len(set(images)) == min(3, (person == LABELS).sum())


def test_identities_and_images_take_turns():
    found = np.concatenate(batches(IdentitySampler(LABELS, 10, 2, seed=0), 40))
    people = np.bincount(LABELS[found])
    assert people.max() - people.min() <= 2 * 8  # 5 of 10 identities a batch
    eight = found[LABELS[found] == 6][:8]  # an epoch is 5 batches, fewer than 8 images of one
    assert len(set(eight[:4])) == 4


def test_an_epoch_is_a_function_of_the_seed_and_its_number():
    one, two = (IdentitySampler(LABELS, 10, 2, seed=3) for _ in range(2))
    straight = batches(one, 12)
    two.go_to(1, 2, 5)
    assert batches(two) == straight[7:12]  # 5 batches an epoch
    assert batches(IdentitySampler(LABELS, 10, 2, seed=4), 12) != straight


def test_two_processes_share_the_batches_of_one(monkeypatch):
    whole = batches(IdentitySampler(LABELS, 12, 3, seed=1))
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        parts.append(list(islice(iter(IdentitySampler(LABELS, 6, 3, seed=1)), len(whole))))
    for batch, *halves in zip(whole, *parts, strict=True):
        indices = [[index for _, index, _ in half] for half in halves]
        assert indices == [batch[0::2], batch[1::2]]


@pytest.mark.parametrize(
    ("batch", "each", "message"),
    [(10, 3, "divisors of the batch size, 10"), (22, 2, "needs 11 identities, the data have 10")],
)
def test_impossible_batches_are_refused(batch, each, message):
    with pytest.raises(ValueError, match=message):
        IdentitySampler(LABELS, batch, each, seed=0)
