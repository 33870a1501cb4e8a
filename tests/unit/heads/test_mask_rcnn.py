"""Mask R-CNN: targets of regions, the class's own mask, equal back ends, one graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit import DenseModel
from densekit.heads import MaskRCNN
from densekit.heads.faster_rcnn import BoxHead, MaskHead, SamplingRule
from densekit.heads.faster_rcnn.regions import Sampled
from densekit.necks import FPN
from densekit.ops.roi import pyramid_table
from densekit.types import Batch, check_batch
from tests.unit.tiny import (
    CHANNELS,
    CLASSES,
    PYRAMID,
    SMALL_HEAD,
    SPECS,
    TinyBackbone,
    random_features,
    spread,
    targets,
)

SMALL: dict[str, Any] = {
    **SMALL_HEAD,
    "box_head": partial(BoxHead, hidden=(16,), sampling=SamplingRule(16, 0.25)),
    "mask_head": partial(MaskHead, convs=(8,)),
}
SIZE = torch.tensor([[64, 96], [64, 96]])


def head(**settings: Any) -> MaskRCNN:
    torch.manual_seed(0)
    made = MaskRCNN(SPECS, **(SMALL | settings))
    spread(made)
    return made


def with_masks(counts: list[int]) -> Batch:
    batch = targets(counts)
    generator = torch.Generator().manual_seed(0)
    shape = (*batch["labels"].shape, 16, 16)
    batch["object_masks"] = torch.randint(0, 2, shape, generator=generator).byte()
    return batch


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def gradients(module: torch.nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    total(losses).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backend", ["ragged", "static"])
@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [40]])
def test_any_number_of_objects(counts: list[int], backend: str) -> None:
    batch = with_masks(counts)
    check_batch(batch)
    made = head(backend=backend)
    losses = made.loss(random_features(len(counts)), batch)
    assert losses.keys() == {"rpn_cls", "rpn_box", "cls", "box", "mask"}
    found = gradients(made, losses)
    assert found.keys() == dict(made.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert (losses["mask"] > 0) == (max(counts) > 0)


@pytest.mark.parametrize("norm", [None, torch.nn.BatchNorm2d])
def test_both_back_ends_train_and_predict_the_same(norm: type[torch.nn.Module] | None) -> None:
    features, batch = random_features(), with_masks([2, 5])
    found = []
    for backend in ("ragged", "static"):
        made = head(backend=backend, mask_head=partial(MaskHead, convs=(8,), norm=norm))
        losses = made.loss(features, batch)
        found.append((losses, gradients(made, losses), made.eval().predict(features, SIZE)))
    for ragged, static in zip(*found, strict=True):
        assert ragged.keys() == static.keys()
        for name in ragged:
            torch.testing.assert_close(ragged[name], static[name], rtol=1e-5, atol=1e-5)


def test_the_mask_is_that_of_the_class_by_the_layers_themselves() -> None:
    made = head().mask_head
    features = random_features()
    levels = [features[name] for name in ("p2", "p3", "p4", "p5")]
    boxes = torch.tensor([[4.0, 5, 40, 50], [20, 8, 90, 60], [1, 1, 9, 60]])
    image, label = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 1])
    where = (pyramid_table(levels), levels)
    seen: list[Tensor] = []
    made.convs.register_forward_hook(lambda *call: seen.append(call[2]))
    found = made(*where, boxes, image, label)
    x = made.upsample(seen[0].permute(0, 3, 1, 2)).relu()
    expected = made.logits(x)[torch.arange(3), label]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_unknown_pixels_and_other_regions_do_not_matter() -> None:
    """The loss is that of the bins that are known, of the positive regions."""
    made = head().mask_head
    features = random_features(1)
    levels = [features[name] for name in ("p2", "p3", "p4", "p5")]
    where = pyramid_table(levels), levels
    box = torch.tensor([8.0, 8, 40, 40])
    sampled = Sampled(
        torch.stack([box, box + 4])[None],
        torch.zeros(1, 2, dtype=torch.int64),
        torch.tensor([[1, CLASSES]]),
        torch.ones(1, 2, dtype=torch.bool),
    )
    mask = torch.ones(1, 1, 56, 56, dtype=torch.uint8)
    mask[..., :28] = 255
    batch: Any = {"boxes": box.view(1, 1, 4), "object_masks": mask}
    loss = made.loss(*where, sampled, batch, torch.arange(2))
    logits = made(*where, box[None], torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(loss, F.softplus(-logits[..., 14:]).mean())


def test_what_is_predicted() -> None:
    made = head().eval()
    spread(made.mask_head, 100)  # whose predictor starts near 0
    found = made.predict(random_features(), SIZE)
    detections = found["boxes"].shape[1]
    assert found["masks"].shape == (2, detections, 28, 28)
    assert found["valid"].any()
    assert not found["masks"][~found["valid"]].any()
    masks = found["masks"][found["valid"]]
    assert ((masks >= 0) & (masks <= 1)).all()
    assert masks.std() > 0.1


def model() -> DenseModel:
    heads = {"detection": partial(MaskRCNN, **(SMALL | {"backend": "static"}))}
    return DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=CHANNELS), {})


def test_loss_and_predictions_compile_without_a_break() -> None:
    made, batch = model(), with_masks([4, 7])
    spread(made)
    for step in (DenseModel.loss, DenseModel.predict):
        expected: Any = step(made, batch)
        found: Any = torch.compile(step, backend="eager", fullgraph=True)(made, batch)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-5)


def test_bfloat16_loss_is_near_float32() -> None:
    made, batch = model(), with_masks([4, 7])
    exact = made.loss(batch)["detection/mask"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = made.loss(batch)["detection/mask"]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)


def test_levels_are_as_in_the_box_head() -> None:
    made = head()
    assert made.mask_head.pooled == made.box_head.pooled
    assert len(made.mask_head.pooled.strides) == len(PYRAMID) - 1
