"""Faster R-CNN: losses on any number of objects, equal back ends, one graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit import DenseModel
from densekit.heads.anchors import label_anchors
from densekit.heads.faster_rcnn import (
    RPN,
    BoxHead,
    DetectionRule,
    FasterRCNN,
    SamplingRule,
    detectron2_preset,
    torchvision_preset,
)
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.ops.matching import IGNORED, NEGATIVE, POSITIVE, covered, match
from densekit.ops.roi import pyramid_table
from densekit.types import Batch, Features, check_batch
from tests.unit.tiny import (
    SMALL_HEAD,
    SPECS,
    random_features,
    spread,
    targets,
    tiny_detector,
)

TERMS = {"rpn_cls", "rpn_box", "cls", "box"}


def head(**settings: Any) -> FasterRCNN:
    made = FasterRCNN(SPECS, **(SMALL_HEAD | settings))
    spread(made)
    return made


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def gradients(module: torch.nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    total(losses).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor], **tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("counts", [[0], [1], [500], [0, 0], [0, 3], [2, 5, 0]])
def test_any_number_of_objects(counts: list[int]) -> None:
    batch = targets(counts)
    check_batch(batch)
    made = head()
    losses = made.loss(random_features(len(counts)), batch)
    assert losses.keys() == TERMS
    assert all(value.isfinite() and value.shape == () for value in losses.values())
    found = gradients(made, losses)
    assert found.keys() == dict(made.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())
    if max(counts) == 0:
        assert losses["rpn_box"] == losses["box"] == 0
        assert losses["rpn_cls"] > 0


def test_every_parameter_of_the_model_gets_a_gradient() -> None:
    model = tiny_detector()
    found = gradients(model, model.loss(targets([0, 2])))
    assert found.keys() == dict(model.named_parameters()).keys()


def test_empty_slots_do_not_enter_batch_statistics() -> None:
    """Twelve slots more than there are regions change neither the losses nor the norms."""
    features, batch = random_features(2), targets([2, 2])
    start = torch.rand(2, 20, 2) * 40
    proposals = Proposals(
        torch.cat([start, start + 8 + torch.rand(2, 20, 2) * 20], 2),
        torch.ones(2, 20, dtype=torch.bool),
    )
    found = []
    for slots in (22, 34):
        torch.manual_seed(0)
        box_head = partial(
            BoxHead,
            convs=(8, 8),
            hidden=(16,),
            norm=torch.nn.BatchNorm2d,
            sampling=SamplingRule(slots, 1.0),
        )
        made = head(box_head=box_head).box_head
        pooled = [features[name] for name in ("p2", "p3", "p4", "p5")]
        losses = made.loss(pyramid_table(pooled), pooled, made.sample(proposals, batch), batch)
        buffers = {name: value.clone() for name, value in made.named_buffers()}
        found.append((losses, gradients(made, losses), buffers))
    for few, many in zip(*found, strict=True):
        assert_equal(few, many)


@pytest.mark.parametrize("depth", [1, 2])
def test_outputs_of_single_anchors_are_the_dense_ones(depth: int) -> None:
    """All anchors of all cells, the borders among them, and their gradients."""
    made = head(rpn=partial(RPN, depth=depth)).double()
    features = random_features(2, (40, 72), dtype=torch.float64, requires_grad=True)
    levels = [features[name] for name in made.reads]
    dense = made.rpn(levels)
    logits, deltas = torch.cat(dense.logits, 1), torch.cat(dense.deltas, 1)
    every = torch.randperm(logits.shape[1]).expand(2, -1)
    at_logits, at_deltas = made.rpn.at(pyramid_table(levels), every)
    torch.testing.assert_close(at_logits, logits[:, every[0]])
    torch.testing.assert_close(at_deltas, deltas[:, every[0]])

    inputs = [*levels, *made.rpn.parameters()]
    weight = torch.randn_like(logits)
    ours = torch.autograd.grad(
        (at_logits * weight[:, every[0]]).sum() + at_deltas.square().sum(), inputs
    )
    theirs = torch.autograd.grad((logits * weight).sum() + deltas.square().sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def sampled_classes(made: FasterRCNN, batch: Batch) -> tuple[Tensor, Tensor]:
    """Anchors and labels of the first stage."""
    features = random_features(len(batch["size"]))
    levels = [features[name] for name in made.reads]
    anchors = made.rpn.grid(levels, (64, 96))
    assign = partial(match, boxes=anchors, rule=made.rpn.matching)
    return anchors, label_anchors(anchors, batch, assign)[1]


def test_crowd_regions_give_neither_positives_nor_negatives() -> None:
    batch = targets([2])
    batch["boxes"][0] = torch.tensor([[0.0, 0, 48, 64], [60, 10, 90, 40]])
    batch["crowd"][0, 0] = True
    made = head()
    anchors, label = sampled_classes(made, batch)
    inside = covered(anchors, batch["boxes"], batch["crowd"])
    touched = label[inside]
    assert len(touched)
    assert ((touched == IGNORED) | (touched == POSITIVE)).all()
    batch["boxes_valid"][0, 0] = False
    anchors, label = sampled_classes(made, batch)
    assert (label[inside] == NEGATIVE).any()


def test_crowd_regions_are_no_regions_of_the_second_stage() -> None:
    batch = targets([2])
    batch["boxes"][0] = torch.tensor([[0.0, 0, 48, 64], [60, 10, 90, 40]])
    batch["crowd"][0, 0] = True
    proposals = torch.tensor([[[1.0, 1, 30, 30], [60, 11, 90, 40], [50, 45, 90, 60]]])
    made = head().box_head
    rows, _, label, valid = made.sample(
        Proposals(proposals, torch.ones(1, 3, dtype=torch.bool)), batch
    )
    found = {tuple(box): int(k) for box, k in zip(rows[valid].tolist(), label[valid], strict=True)}
    own = int(batch["labels"][0, 1])
    assert found == {(60, 11, 90, 40): own, (60, 10, 90, 40): own, (50, 45, 90, 60): 3}


def test_a_crowd_that_looks_like_an_object_is_no_sample() -> None:
    batch = targets([2])
    batch["boxes"][0] = torch.tensor([[58.0, 8, 92, 42], [60, 10, 90, 40]])  # IoU 0.78
    batch["crowd"][0, 0] = True
    none = Proposals(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.bool))
    rows, _, _, valid = head().box_head.sample(none, batch)
    assert rows[valid].tolist() == [[60, 10, 90, 40]]


def test_the_key_decides_the_samples() -> None:
    batch, features = targets([3, 5]), random_features()
    made = head()
    first = made.loss(features, batch)
    assert_equal(first, made.loss(features, batch))
    batch["key"] = batch["key"] + 1
    assert not torch.equal(made.loss(features, batch)["rpn_cls"], first["rpn_cls"])


def test_padding_of_the_targets_changes_nothing() -> None:
    features = random_features()
    made = head()
    bare = made.loss(features, targets([3, 5]))
    padded = targets([3, 5], slots=64)
    padded["boxes"][~padded["boxes_valid"]] = torch.tensor([5.0, 5, 40, 40])
    padded["labels"][~padded["boxes_valid"]] = 2
    assert_equal(bare, made.loss(features, padded))


def test_no_key_of_crowds_is_none_of_them() -> None:
    batch, features = targets([3, 5]), random_features()
    made = head()
    with_key = made.loss(features, batch)
    del batch["crowd"]
    assert_equal(with_key, made.loss(features, batch))


def first_images(features: Features, count: int) -> Features:
    return {name: value[:count] for name, value in features.items()}


def test_repeated_samples_add_no_loss() -> None:
    batch, features = targets([3, 5, 2]), random_features(3)
    batch["sample_valid"][2] = False
    made = head()
    found = made.loss(features, batch)
    alone: Batch = {key: value[:2] for key, value in batch.items()}  # type: ignore[index,misc]
    assert_equal(found, made.loss(first_images(features, 2), alone))


def test_a_batch_of_repeats_alone_has_no_loss() -> None:
    batch = targets([3])
    batch["sample_valid"][:] = False
    made = head()
    losses = made.loss(random_features(1), batch)
    assert total(losses) == 0
    assert gradients(made, losses).keys() == dict(made.named_parameters()).keys()


def test_both_back_ends_learn_the_same() -> None:
    batch, features = targets([3, 5]), random_features()
    ragged = head(backend="ragged")
    static = head(backend="static")
    static.load_state_dict(ragged.state_dict())
    assert_equal(ragged.loss(features, batch), static.loss(features, batch))


@pytest.mark.parametrize("rule", [DetectionRule(), DetectionRule(0.3, 0.3, 20)])
def test_both_back_ends_predict_the_same(rule: DetectionRule) -> None:
    features, size = random_features(), torch.tensor([[64, 96], [50, 70]])
    ragged = head(backend="ragged", detection=rule)
    static = head(backend="static", detection=rule)
    static.load_state_dict(ragged.state_dict())
    a, b = ragged.predict(features, size), static.predict(features, size)
    assert not b.pop("overflow").any()
    valid = a["valid"]
    assert valid.sum() >= 20
    width = valid.shape[1]
    assert not b["valid"][:, width:].any()
    for key in ("boxes", "scores", "labels"):
        torch.testing.assert_close(b[key][:, :width][valid], a[key][valid], atol=1e-5, rtol=0)
    assert torch.equal(b["valid"][:, :width], valid)


def test_predictions_are_sorted_and_inside_the_image() -> None:
    size = torch.tensor([[64, 96], [50, 70]])
    found = head().predict(random_features(), size)
    assert (found["scores"].diff(dim=1) <= 0).all()
    assert ((found["labels"] >= 0) & (found["labels"] < 3)).all()
    for boxes, (height, width) in zip(found["boxes"], size.tolist(), strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()


@pytest.mark.parametrize("candidates", [50, 20000])
def test_says_when_candidates_overflow(candidates: int) -> None:
    rule = DetectionRule(score_threshold=0.01, candidates=candidates)
    found = head(backend="static", detection=rule).predict(
        random_features(), torch.tensor([[64, 96]] * 2)
    )
    assert found["overflow"].tolist() == [candidates == 50] * 2


@pytest.mark.parametrize("backend", ["static", "ragged"])
def test_nothing_above_the_threshold(backend: str) -> None:
    made = head(backend=backend, detection=DetectionRule(score_threshold=1.0))
    found = made.predict(random_features(), torch.tensor([[64, 96]] * 2))
    assert not found["valid"].any()
    assert found["boxes"].shape[0] == 2


@pytest.mark.parametrize(
    "preset",
    [torchvision_preset(), torchvision_preset(2), detectron2_preset()],
    ids=["torchvision", "torchvision v2", "detectron2"],
)
def test_presets_learn_and_predict(preset: dict[str, Any]) -> None:
    few = partial(preset["box_head"], sampling=SamplingRule(16, 0.25))
    made = FasterRCNN(SPECS, num_classes=3, **(preset | {"box_head": few}))
    features = random_features(1, (32, 48))
    losses = made.loss(features, targets([2], (32, 48)))
    assert gradients(made, losses).keys() == dict(made.named_parameters()).keys()
    made.eval()
    found = made.predict(features, torch.tensor([[32, 48]]))
    assert found["boxes"].isfinite().all()


def test_bfloat16_loss_is_near_float32() -> None:
    model = tiny_detector()
    batch = targets([4, 7])
    exact = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(batch)
    found = gradients(model, rough)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, value in rough.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.02)


@pytest.mark.parametrize("norm", [None, torch.nn.BatchNorm2d])
def test_loss_compiles_without_a_break(norm: type[torch.nn.Module] | None) -> None:
    model = tiny_detector(box_head=partial(BoxHead, convs=(8,), hidden=(16,), norm=norm))
    batch = targets([4, 7])
    expected = gradients(model, model.loss(batch))
    compiled = torch.compile(DenseModel.loss, backend="eager", fullgraph=True)
    assert_equal(gradients(model, compiled(model, batch)), expected)


def test_predict_compiles_without_a_break() -> None:
    model = tiny_detector(backend="static").eval()
    spread(model)
    batch = targets([4, 7])
    compiled = torch.compile(DenseModel.predict, backend="eager", fullgraph=True)
    with torch.no_grad():
        found, expected = compiled(model, batch), model.predict(batch)
    assert expected["detection"]["valid"].any()
    # A side of 1 px at 90 px carries the rounding of 90 px.
    assert_equal(found["detection"], expected["detection"], rtol=1e-6, atol=5e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooled": ("p3", "p4")}, r"pooled: expected the first levels of .* got \['p3', 'p4'\]"),
        ({"box_head": partial(BoxHead, hidden=())}, "box_head.hidden: expected at least one width"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**settings)


def test_refuses_sizes_that_do_not_fit_the_levels() -> None:
    with pytest.raises(
        ValueError,
        match=r"rpn.sizes: expected one list per level \(p2, p3, .* got \[\[32\], \[64\]\]",
    ):
        head(rpn=partial(RPN, sizes=[[32], [64]]))


def test_metrics_are_coco_s() -> None:
    assert list(head().make_metrics({"names": ["a", "b", "c"]})) == ["coco"]


def test_first_linear_is_the_same_as_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    from densekit.heads.faster_rcnn import box_head

    x, weight, bias = torch.randn(5, 3, 3, 4), torch.randn(6, 36), torch.randn(6)
    expected = torch.nn.functional.linear(x.flatten(1), weight, bias)
    for amd in (False, True):
        monkeypatch.setattr(box_head, "MADE_BY_AMD", amd)
        torch.testing.assert_close(box_head.first_linear(x, weight, bias), expected)
