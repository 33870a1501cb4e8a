"""Batches of images and of identities."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from densekit.data import EvalSampler, IdentitySampler, TrainSampler
from densekit.data.samplers import aspect_groups
from densekit.ops import dist


@pytest.fixture
def ranks(monkeypatch):
    """Runs a function as each rank of a world."""

    def run(world, function):
        monkeypatch.setattr(dist, "world_size", lambda: world)
        results = []
        for rank in range(world):
            monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
            results.append(function())
        return results

    return run


def indices(batches):
    return [[index for _, index, _ in batch] for batch in batches]


def test_every_epoch_is_a_new_order_of_all_images():
    sampler = TrainSampler(12, 4, seed=0)
    sampler.go_to(0, 0, 6)
    batches = list(sampler)
    assert [{epoch for epoch, _, _ in batch} for batch in batches] == [{0}] * 3 + [{1}] * 3
    first, second = np.ravel(indices(batches[:3])), np.ravel(indices(batches[3:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert indices(TrainSampler(12, 4, seed=1)) != indices(batches[:3])


def test_a_pass_starts_anywhere():
    sampler = TrainSampler(13, 4, seed=0)
    assert len(sampler) == 3
    sampler.go_to(0, 0, 9)
    everything = list(sampler)
    sampler.go_to(1, 2, 4)
    assert list(sampler) == everything[5:]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_global_batches_of_one(ranks, grouped, world):
    groups = np.arange(37) % 2 if grouped else None
    parts = ranks(world, lambda: indices(TrainSampler(37, 8 // world, 5, groups)))
    whole = ranks(1, lambda: indices(TrainSampler(37, 8, 5, groups)))[0]
    assert len(whole) == 4
    for number, batch in enumerate(whole):
        assert [part[number] for part in parts] == [batch[r::world] for r in range(world)]


def test_aspect_groups_do_not_mix_but_in_the_rest():
    sizes = np.asarray([[10, 20], [20, 10], [10, 10]] * 11)
    groups = aspect_groups(sizes)
    assert groups[:3].tolist() == [1, 0, 1]
    batches = indices(TrainSampler(33, 4, 0, groups))
    assert len(batches) == 8
    mixed = sum(len({groups[i] for i in batch}) > 1 for batch in batches)
    assert mixed <= 1
    assert len({i for batch in batches for i in batch}) == 32


def test_a_data_set_smaller_than_a_batch_is_repeated():
    batches = indices(TrainSampler(3, 8, 0))
    assert len(batches) == 1
    assert len(batches[0]) == 8
    assert set(batches[0]) == {0, 1, 2}
    with pytest.raises(ValueError, match="got 8 and 0 images"):
        TrainSampler(0, 8, 0)


@pytest.mark.parametrize("length", [0, 1, 7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_image_once_in_equal_steps(ranks, length, world):
    parts = ranks(world, lambda: (len(EvalSampler(length, 2)), list(EvalSampler(length, 2))))
    assert len({count for count, _ in parts}) == 1
    assert all(count == len(batches) for count, batches in parts)
    draws = [draw for _, batches in parts for batch in batches for draw in batch]
    assert sorted(index for _, index, valid in draws if valid) == list(range(length))
    assert len({tuple(len(batch) for batch in batches) for _, batches in parts}) == 1
    assert all(0 <= index < length for _, index, _ in draws)


def test_a_batch_has_each_image_as_often_as_asked(ranks):
    sampler = TrainSampler(26, 8, seed=0, repeats=4)
    assert len(sampler) == 3  # an epoch stays as long as it was
    batches = np.array(indices(sampler))
    images = batches % 26
    assert all(sorted(np.unique(row, return_counts=True)[1]) == [4, 4] for row in images)
    assert all((row // 26).tolist() == [0, 0, 1, 1, 2, 2, 3, 3] for row in batches)
    assert len(np.unique(images)) == 6  # another two in every batch

    def first():
        return indices(TrainSampler(26, 4, seed=0, repeats=4))[0]

    two = np.stack(ranks(2, first), axis=1).ravel()  # two processes share one global batch
    assert two.tolist() == batches[0].tolist()


def test_repeats_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="repeats: expected a divisor of the batch size 6, got 4"):
        TrainSampler(26, 6, seed=0, repeats=4)


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
    [
        (10, 3, "a divisor of the batch size 10, got 3"),
        (22, 2, "expected 11 identities for a batch of 22 images, got 10"),
    ],
)
def test_impossible_batches_are_refused(batch, each, message):
    with pytest.raises(ValueError, match=message):
        IdentitySampler(LABELS, batch, each, seed=0)
