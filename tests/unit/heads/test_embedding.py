"""The embedding head: any image size, padding left out, insightface's names, its losses."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from densekit import DenseModel
from densekit.heads import Embedding
from densekit.heads.embedding import FlattenedMap, GeneralisedMean, GlobalAverage
from densekit.losses import MagFace, MarginSoftmax, PartialFC, Triplet
from densekit.types import FeatureSpec
from tests.unit.tiny import TinyBackbone

SPECS = {"c0": FeatureSpec(3, (1, 1)), "c5": FeatureSpec(12, (32, 32))}
POOLS = [GlobalAverage, GeneralisedMean, partial(FlattenedMap, size=(64, 96), dropout=0.2)]


def model(pool=GlobalAverage, **head) -> DenseModel:
    made = partial(Embedding, num_identities=5, embedding_size=16, pool=pool, **head)
    return DenseModel(TinyBackbone(), {"identity": made})


def batch(count: int = 4, sides: tuple[int, int] = (64, 96)):
    return {
        "image": torch.randint(0, 256, (count, 3, *sides)).byte(),
        "size": torch.tensor([sides] * count),
        "sample_valid": torch.ones(count, dtype=torch.bool),
        "key": torch.arange(count),
        "identity": torch.arange(count) % 5,
    }


@pytest.mark.parametrize("pool", POOLS)
def test_embeddings_have_length_one(pool):
    network = model(pool).eval()
    found = network.predict(batch())["identity"]["embedding"]
    assert found.shape == (4, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("pool", POOLS[:2])
@pytest.mark.parametrize("sides", [(64, 96), (33, 70)])
def test_padding_changes_nothing(pool, sides):
    specs = {"c1": FeatureSpec(3, (2, 2))}
    head = Embedding(specs, 5, embedding_size=8, level="c1", pool=pool).eval()
    cells = [-(-side // 2) for side in sides]
    small = torch.rand(1, 3, *cells)
    large = torch.full((1, 3, cells[0] + 5, cells[1] + 3), 9.0)
    large[..., : cells[0], : cells[1]] = small
    size = torch.tensor([sides])
    found = [head({"c1": x}, size)["embedding"] for x in (small, large)]
    torch.testing.assert_close(*found)
    mean = small.mean((2, 3))
    if pool is GlobalAverage:
        torch.testing.assert_close(head.pool.pool(large, size), mean)


def test_generalised_mean_is_its_formula_and_learns_its_exponent():
    pool = GeneralisedMean(SPECS["c5"], 8, p=2.5)
    x, size = torch.rand(2, 12, 3, 4), torch.tensor([[96, 128]] * 2)
    wanted = x.pow(2.5).mean((2, 3)).pow(1 / 2.5)
    torch.testing.assert_close(pool.pool(x, size), wanted)
    pool(x, size).square().sum().backward()
    assert pool.p.grad.abs() > 0
    zeros = torch.zeros(2, 12, 3, 4, requires_grad=True)
    pool(zeros, size).sum().backward()
    assert zeros.grad.isfinite().all()


def test_flattened_map_has_the_parameters_of_arcface_torch():
    pool = FlattenedMap(FeatureSpec(512, (16, 16)), 512)
    shapes = {name: tuple(p.shape) for name, p in pool.named_parameters()}
    assert shapes == {
        "bn2.weight": (512,),
        "bn2.bias": (512,),
        "fc.weight": (512, 512 * 7 * 7),
        "fc.bias": (512,),
        "features.weight": (512,),
        "features.bias": (512,),
    }
    assert not pool.features.weight.requires_grad
    assert pool.features.weight.eq(1).all()
    x = torch.randn(2, 512, 7, 7)
    pool.eval()
    wanted = pool.features(pool.fc(torch.flatten(pool.bn2(x), 1)))
    torch.testing.assert_close(pool(x, torch.tensor([[112, 112]] * 2)), wanted)


def test_flattened_map_refuses_another_size():
    network = model(POOLS[2])
    with pytest.raises(
        ValueError, match=r"expected images of \[64, 96\] pixels, got about \[64, 12"
    ):
        network.predict(batch(sides=(64, 128)))


@pytest.mark.parametrize("pool", POOLS)
def test_every_parameter_gets_a_gradient(pool):
    network = model(pool, pair_losses={"triplet": Triplet()}).train()
    terms = network.loss(batch())
    assert set(terms) == {"identity/ce", "identity/triplet"}
    torch.stack(list(terms.values())).sum().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_a_batch_of_one_trains():
    for pool in POOLS:
        network = model(pool).train()
        loss = network.loss(batch(1))["identity/ce"]
        loss.backward()
        assert loss.isfinite()


def test_weights_scale_their_terms():
    classifier = partial(MarginSoftmax, margin=MagFace())
    torch.manual_seed(0)
    plain = model(classifier=classifier).eval()
    torch.manual_seed(0)
    weighed = model(classifier=classifier, loss_weights={"magnitude": 0.5}).eval()
    data = batch()
    one, two = plain.loss(data), weighed.loss(data)
    torch.testing.assert_close(two["identity/magnitude"], one["identity/magnitude"] / 2)
    torch.testing.assert_close(two["identity/ce"], one["identity/ce"])


def test_an_identity_that_training_does_not_know_is_refused():
    data = batch()
    data["identity"] = torch.tensor([0, 1, 2, 5])
    with pytest.raises(RuntimeError, match="identity: expected 0 to 4"):
        model().loss(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "c9"}, "level: expected one of .* got 'c9'"),
        ({"classifier": None}, "expected at least one of them, got neither"),
        ({"loss_weights": {"cd": 1}}, "loss_weights.cd: .* did you mean 'ce'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Embedding(SPECS, 5, **settings)


def test_divided_centres_stay_frozen_and_are_enough_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("densekit.ops.dist.own_rows", lambda total: range(1, 3))
    module = PartialFC(5, 4)
    module.centres.requires_grad_(False)
    wanted = module.centres[1:3].clone()
    module.shard()
    assert torch.equal(module.centres, wanted)
    assert not module.centres.requires_grad
    monkeypatch.setattr("densekit.ops.dist.own_rows", lambda total: range(5, 5))
    with pytest.raises(ValueError, match=r"PartialFC: expected identities for each .* got 5"):
        PartialFC(5, 4).shard()


def test_pair_loss_must_not_take_the_name_of_a_term_of_the_classifier() -> None:
    specs = {"c5": FeatureSpec(4, (32, 32))}
    with pytest.raises(ValueError, match="names other than the classifier's terms, got 'ce'"):
        Embedding(specs, 3, pair_losses={"ce": Triplet()})
