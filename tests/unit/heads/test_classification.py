"""The classification head: pooling of padded images, what it learns from, what it predicts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from densekit import DenseModel
from densekit.backbones import ResNet
from densekit.heads import Classification
from densekit.inference.restore import restore
from densekit.ops.pooling import mean_inside
from densekit.types import FeatureSpec

SPECS = {
    "c0": FeatureSpec(3, (1, 1)),
    "c4": FeatureSpec(6, (16, 16)),
    "c5": FeatureSpec(8, (32, 32)),
}
PYRAMID = {**SPECS, "p2": FeatureSpec(4, (4, 4)), "p6": FeatureSpec(4, (64, 64))}
POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_full_maps_are_pooled_as_torch_does_bit_by_bit(dims: int) -> None:
    x = torch.randn(3, 7, *(5, 6, 4)[:dims])
    size = torch.tensor([[17, 24, 13][:dims]]).repeat(3, 1)  # cells of 4: 5, 6, 4
    expected = POOLS[dims](x, 1).flatten(1)
    assert torch.equal(mean_inside(x, size, (4,) * dims), expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_is_left_out_of_the_mean(dims: int) -> None:
    x = torch.randn(2, 7, *(5, 6, 4)[:dims])
    size = torch.tensor([[17, 24, 13][:dims], [8, 9, 1][:dims]])
    inside = x[1][(slice(None), *map(slice, [2, 3, 1][:dims]))]
    found = mean_inside(x, size, (4,) * dims)
    torch.testing.assert_close(found[0], x[0].flatten(1).mean(1))
    torch.testing.assert_close(found[1], inside.flatten(1).mean(1))


def test_an_image_in_a_batch_of_larger_ones_keeps_its_own_mean() -> None:
    # One layer, whose zero padding is the padding of the batch: equal to the image alone.
    backbone = ResNet(18, width=8)
    backbone.eval()
    model = DenseModel(
        backbone, {"classification": partial(Classification, num_classes=3, level="c1")}
    ).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    images[1, :, 32:], images[1, :, :, 50:] = 0, 0
    batch: Any = {"image": images, "size": torch.tensor([[64, 96], [32, 50]])}
    alone: Any = {"image": images[1:, :, :32, :50], "size": torch.tensor([[32, 50]])}
    both = model.predict(batch)["classification"]["probabilities"]
    one = model.predict(alone)["classification"]["probabilities"]
    torch.testing.assert_close(both[1:], one)


def test_the_deepest_level_of_the_backbone_is_read_unless_one_is_named() -> None:
    assert Classification(PYRAMID, 3).reads == ("c5",)
    assert Classification({"c0": SPECS["c0"], "c4": SPECS["c4"]}, 3).reads == ("c4",)
    head = Classification(PYRAMID, 3, level="p6")
    assert head.reads == ("p6",)
    assert head.fc.in_features == 4


@pytest.mark.parametrize(("count", "multilabel"), [(1, False), (0, True)])
def test_too_few_classes_are_refused(count: int, multilabel: bool) -> None:
    with pytest.raises(
        ValueError, match=f"num_classes: expected at least {count + 1}, got {count}"
    ):
        Classification(SPECS, count, multilabel=multilabel)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("multilabel", [False, True])
def test_every_parameter_learns(dims: int, multilabel: bool) -> None:
    backbone = ResNet(18, width=8, in_channels=2, spatial_dims=dims, stem="half")
    head = partial(Classification, num_classes=3, multilabel=multilabel, dropout=0.2)
    info = {"mean": [0.0, 0.0], "std": [1.0, 1.0]}
    model = DenseModel(backbone, {"classification": head}, info=info)
    labels = torch.tensor([[0.0, 1, 1], [0, 0, 0]]) if multilabel else torch.tensor([2, 0])
    sides = (32, 16, 16)[:dims]
    batch: Any = {
        "image": torch.randn(2, 2, *sides),
        "size": torch.tensor([list(sides)] * 2),
        "category": labels,
    }
    (loss,) = model.loss(batch).values()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_losses_are_the_user_s() -> None:
    from densekit.losses import ImageCrossEntropy

    torch.manual_seed(0)
    head = Classification(SPECS, 3, losses={"smooth": ImageCrossEntropy(label_smoothing=0.1)})
    features = {"c5": torch.randn(4, 8, 2, 2)}
    batch: Any = {"size": torch.full((4, 2), 64), "category": torch.tensor([0, 2, 1, 1])}
    logits = head(features, batch["size"])["logits"]
    expected = F.cross_entropy(logits, batch["category"], label_smoothing=0.1)
    found = head.loss(features, batch)
    assert list(found) == ["smooth"]
    torch.testing.assert_close(found["smooth"], expected)


def test_results_are_the_most_probable_class() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 2.0, 0.0]])
    head = Classification(SPECS, 3)
    decoded = head.decode({"logits": logits}, torch.ones(2, 2))
    first, second = restore({"x": decoded}, {"size": torch.ones(2, 2)})  # type: ignore[arg-type]
    assert first["x"]["labels"].tolist() == [1]
    assert second["x"]["labels"].tolist() == [0]  # of equal ones the first
    torch.testing.assert_close(torch.tensor(first["x"]["probabilities"]), logits[0].softmax(0))
    assert first["x"]["scores"][0] == first["x"]["probabilities"][1]


def test_results_of_labels_are_those_that_are_likely_by_falling_probability() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0], [-1.0, -1.0, -1.0]])
    head = Classification(SPECS, 3, multilabel=True)
    decoded = head.decode({"logits": logits}, torch.ones(2, 2))
    first, second = restore({"x": decoded}, {"size": torch.ones(2, 2)})  # type: ignore[arg-type]
    assert first["x"]["labels"].tolist() == [2, 0]
    assert second["x"]["labels"].tolist() == []
    torch.testing.assert_close(torch.tensor(first["x"]["scores"]), logits[0, [2, 0]].sigmoid())
