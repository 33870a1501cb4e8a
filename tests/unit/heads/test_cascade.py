"""Cascade R-CNN: a second formulation, image by image and with torchvision's operators.

detectron2 cannot be installed beside this torch; its rules are written out here: regions of the
first stage are sampled, each further stage takes the clipped boxes of the one before, leaves out
empty ones and matches all others at its own IoU; losses are means over a stage's regions, and the
gradient of the levels is scaled by the number of stages. Scores are averaged, boxes are the last's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from densekit import DenseModel
from densekit.heads import FasterRCNN, MaskRCNN
from densekit.heads.faster_rcnn import BoxHead, CascadeBoxHead, MaskHead, SamplingRule
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.heads.faster_rcnn.regions import Sampled
from densekit.necks import FPN
from densekit.ops.roi import pyramid_table
from densekit.types import Batch
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

LEVELS = ("p2", "p3", "p4", "p5")
CASCADE = partial(
    CascadeBoxHead, stage=partial(BoxHead, hidden=(16,)), sampling=SamplingRule(24, 0.25)
)
SIDES = (64, 96)


def head() -> FasterRCNN:
    torch.manual_seed(0)
    made = FasterRCNN(SPECS, **(SMALL_HEAD | {"box_head": CASCADE})).double()
    spread(made)
    return made


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient / 3


def stage_outputs(stage: BoxHead, levels: list[Tensor], boxes: list[Tensor]) -> list[Any]:
    """Logits and deltas of each image alone."""
    found = []
    for image, rows in enumerate(boxes):
        own = [level[image : image + 1] for level in levels]
        logits, deltas = stage(pyramid_table(own), own, rows[None])
        found.append((logits[0], deltas[0, :, 0]))
    return found


def corrected(stage: BoxHead, found: list[Any], boxes: list[Tensor]) -> list[Tensor]:
    coder = BoxCoder(stage.box_loss.delta_weights)
    return [
        clip_boxes_to_image(coder.decode_single(deltas.detach(), rows), SIDES)
        for (_, deltas), rows in zip(found, boxes, strict=True)
    ]


def reference_losses(
    cascade: CascadeBoxHead, levels: list[Tensor], sampled: Sampled, batch: Batch
) -> dict[str, Tensor]:
    levels = [Scaled.apply(level) for level in levels]
    boxes = [rows[valid] for rows, valid in zip(sampled.boxes, sampled.valid, strict=True)]
    losses = {}
    for number, (stage, iou) in enumerate(zip(cascade.stages, (0.5, 0.6, 0.7), strict=True), 1):
        found = stage_outputs(stage, levels, boxes)
        coder, classes, towards, positive = BoxCoder(stage.box_loss.delta_weights), [], [], []
        for image, rows in enumerate(boxes):
            gt = batch["boxes"][image][batch["boxes_valid"][image]].double()
            best, index = box_iou(rows, gt).max(1)
            own = batch["labels"][image][index]
            positive.append(best >= iou)
            classes.append(torch.where(best >= iou, own, CLASSES))
            towards.append(coder.encode_single(gt[index], rows))
        rows_of_loss = torch.cat(positive)
        entropy = F.cross_entropy(torch.cat([logits for logits, _ in found]), torch.cat(classes))
        error = F.smooth_l1_loss(
            torch.cat([deltas for _, deltas in found])[rows_of_loss],
            torch.cat(towards)[rows_of_loss],
            beta=1 / 9,
            reduction="sum",
        )
        losses |= {f"cls_{number}": entropy, f"box_{number}": error / len(rows_of_loss)}
        boxes = [
            rows[((rows[:, 2:] - rows[:, :2]) > 0).all(1)]
            for rows in corrected(stage, found, boxes)
        ]
    return losses


def near_objects(batch: Batch) -> Proposals:
    """Boxes around the objects, and some elsewhere."""
    generator = torch.Generator().manual_seed(3)
    boxes = batch["boxes"].double()
    size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    moved = [boxes + s * size * torch.randn(size.shape, generator=generator) for s in (0.05, 0.1)]
    corner = torch.rand(2, 20, 2, generator=generator) * 50
    others = torch.cat([corner, corner + 5 + torch.rand(2, 20, 2, generator=generator) * 30], 2)
    rows = torch.cat([*moved, others.double()], 1)
    limit = torch.tensor([96.0, 64, 96, 64])
    rows = torch.minimum(rows.clamp(min=0), limit.double())
    return Proposals(rows, ((rows[..., 2:] - rows[..., :2]) > 1).all(-1))


def test_losses_and_gradients_are_those_of_the_rules() -> None:
    made, batch = head(), targets([3, 5])
    cascade = made.box_head
    assert isinstance(cascade, CascadeBoxHead)
    for stage in cascade.stages:
        stage.deltas.weight.data *= 0.1  # boxes stay near their objects
    features = random_features(dtype=torch.float64, requires_grad=True)
    levels = [features[name] for name in LEVELS]
    sampled = cascade.sample(near_objects(batch), batch)
    inputs = [*levels, *cascade.parameters()]
    losses = cascade.loss(pyramid_table(levels), levels, sampled, batch)
    expected = reference_losses(cascade, levels, sampled, batch)
    assert all(expected[f"box_{number}"] > 0 for number in (1, 2, 3))
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=0)
    ours, theirs = (
        torch.autograd.grad(torch.stack(list(of.values())).sum(), inputs)
        for of in (losses, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@torch.no_grad()
def test_detections_are_those_of_the_rules() -> None:
    made = head().eval()
    cascade = made.box_head
    features = random_features(dtype=torch.float64)
    levels = [features[name] for name in LEVELS]
    size = torch.tensor([SIDES] * 2)
    outputs = made(features, size)
    found = made.decode(outputs, size)
    first = made.rpn.propose(
        made.rpn([features[name] for name in made.reads]),
        made.rpn.grid([features[name] for name in made.reads], SIDES),
        size,
        made.rpn.proposals.test_pre_nms,
        made.rpn.proposals.test_post_nms,
        None,
    )
    boxes = [rows[valid] for rows, valid in zip(first.boxes, first.valid, strict=True)]
    scores = [torch.zeros(len(rows), CLASSES + 1, dtype=torch.float64) for rows in boxes]
    for stage in cascade.stages:
        of_stage = stage_outputs(stage, levels, boxes)
        scores = [
            s + logits.softmax(1) / 3 for s, (logits, _) in zip(scores, of_stage, strict=True)
        ]
        boxes = corrected(stage, of_stage, boxes)
    for image, (rows, score) in enumerate(zip(boxes, scores, strict=True)):
        candidates, labels = (score[:, :-1] > 0.05).nonzero(as_tuple=True)
        value = score[candidates, labels]
        rows = rows[candidates]
        area = ((rows[:, 2:] - rows[:, :2]) >= 1e-2).all(1)
        rows, value, labels = rows[area], value[area], labels[area]
        keep = batched_nms(rows, value, labels, 0.5)[:100]
        valid = found["valid"][image]
        assert len(keep) == valid.sum() > 20
        torch.testing.assert_close(found["scores"][image][valid], value[keep])
        torch.testing.assert_close(found["boxes"][image][valid], rows[keep])


def masked(**settings: Any) -> DenseModel:
    head = partial(
        MaskRCNN,
        **SMALL_HEAD | {"box_head": CASCADE, "mask_head": partial(MaskHead, convs=(8,))} | settings,
    )
    return DenseModel(TinyBackbone(), {"detection": head}, partial(FPN, out_channels=CHANNELS), {})


@pytest.mark.parametrize("counts", [[0, 0], [0, 3]])
def test_with_masks_every_parameter_has_a_gradient(counts: list[int]) -> None:
    model, batch = masked(), targets(counts)
    batch["object_masks"] = torch.ones(*batch["labels"].shape, 4, 4, dtype=torch.uint8)
    losses = model.loss(batch)
    assert {name.partition("/")[2] for name in losses} == {
        *("rpn_cls", "rpn_box", "mask"),
        *(f"{term}_{number}" for term in ("cls", "box") for number in (1, 2, 3)),
    }
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    found = model.eval().predict(batch)["detection"]
    assert found["masks"].shape[2:] == (28, 28)


def test_a_cascade_has_stages() -> None:
    with pytest.raises(ValueError, match=r"box_head\.rules: expected at least one stage"):
        CASCADE(PYRAMID, CLASSES, rules=())
