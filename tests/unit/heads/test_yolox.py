"""YOLOX: its losses and every gradient against the published formulae, image by image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from densekit.heads import YOLOX
from densekit.ops.simota import SimOTARule
from densekit.types import FeatureSpec
from tests.unit.heads.one_stage_cases import SIDES, features, one_stage
from tests.unit.ops.test_simota import one_image
from tests.unit.tiny import CLASSES, targets

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


def head(**settings: Any) -> Any:
    torch.manual_seed(1)
    made = one_stage(YOLOX, channels=8, depth=2, **settings)
    with torch.no_grad():
        for net in made.networks.values():
            net.deltas.weight *= 0.1  # sizes are exponentials
    return made


def network(made: Any, levels: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Outputs (B, A, 5 + K) as box, objectness, classes; cell corners (A, 2), strides (A, 1)."""
    outputs, corners, strides = [], [], []
    for name, stride in STRIDES.items():
        net = made.networks[name]

        def block(conv: Any, x: Tensor) -> Tensor:
            y = F.conv2d(x, conv[0].weight, padding=conv[0].weight.shape[-1] // 2)
            y = F.batch_norm(y, None, None, conv[1].weight, conv[1].bias, True, eps=1e-3)
            return y * y.sigmoid()

        stem = block(net.stem, levels[name])
        classes = block(net.cls_convs[1], block(net.cls_convs[0], stem))
        boxes = block(net.box_convs[1], block(net.box_convs[0], stem))
        out = [net.deltas(boxes), net.objectness(boxes), net.logits(classes)]
        outputs.append(torch.cat(out, 1).flatten(2).transpose(1, 2))
        rows, columns = levels[name].shape[2:]
        grid = [(x, y) for y in range(rows) for x in range(columns)]
        corners += grid
        strides += [[stride]] * len(grid)
    of = torch.float64
    return torch.cat(outputs, 1), torch.tensor(corners, dtype=of), torch.tensor(strides, dtype=of)


def reference(made: Any, levels: dict[str, Tensor], batch: Any, l1: bool) -> dict[str, Tensor]:
    """The losses as published, with loops over images and points."""
    out, corner, stride = network(made, levels)
    centre, size = (out[..., :2] + corner) * stride, out[..., 2:4].exp() * stride
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    points = torch.cat([corner * stride, (corner + 1) * stride], 1)
    wanted = torch.zeros_like(out[..., 4])
    cls = box = near = torch.zeros((), dtype=torch.float64)
    for image, valid in enumerate(batch["boxes_valid"]):
        gt, labels = batch["boxes"][image, valid], batch["labels"][image, valid]
        if not len(gt):
            continue
        row = out[image].detach()
        found: Any = type("Found", (), {})()
        found.boxes, found.logits, found.objectness = boxes[image].detach(), row[:, 5:], row[:, 4]
        for point, owner in enumerate(one_image(gt, labels, points, found, made.matching)):
            if owner < 0:
                continue
            wanted[image, point] = 1
            iou = box_iou(boxes[image, point][None], gt[owner][None])[0, 0]
            box = box + 1 - iou**2
            target = F.one_hot(labels[owner], CLASSES) * iou.detach()
            cls = cls + F.binary_cross_entropy_with_logits(
                out[image, point, 5:], target, reduction="sum"
            )
            mean = (gt[owner, :2] + gt[owner, 2:]) / 2 / stride[point] - corner[point]
            scale = torch.log((gt[owner, 2:] - gt[owner, :2]) / stride[point] + 1e-8)
            near = near + (out[image, point, :4] - torch.cat([mean, scale])).abs().sum()
    count = wanted.sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(out[..., 4], wanted, reduction="sum")
    terms = {"cls": cls, "box": 5 * box, "objectness": objectness, "l1": near}
    return {name: value / count for name, value in terms.items() if name != "l1" or l1}


@pytest.mark.parametrize("rule", [SimOTARule(), SimOTARule(1.5, in_box=False)])
@pytest.mark.parametrize("l1", [False, True])
def test_losses_and_every_gradient(l1: bool, rule: SimOTARule) -> None:
    made = head(matching=rule, l1_weight=float(l1)).double()
    levels = {name: value.double() for name, value in features(3).items()}
    batch = targets([4, 0, 9])
    batch["boxes"] = batch["boxes"].double()
    weights = dict(made.named_parameters())

    found, expected = made.loss(levels, batch), reference(made, levels, batch, l1)

    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=0)
    ours, theirs = (
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), list(weights.values()))
        for terms in (found, expected)
    )
    for name, a, b in zip(weights, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


def test_detections_are_those_of_the_authors() -> None:
    """Each cell's best class, suppression within it by boxes that are not clipped."""
    made = head().double()
    levels = {name: value.double() for name, value in features(2).items()}
    out, corner, stride = network(made, levels)
    centre, size = (out[..., :2] + corner) * stride, out[..., 2:4].exp() * stride
    found = made.predict(levels, torch.tensor([[10_000, 10_000]] * 2))
    for image in range(2):
        boxes = torch.cat([centre[image] - size[image] / 2, centre[image] + size[image] / 2], 1)
        confidence, label = out[image, :, 5:].sigmoid().max(1)
        score = confidence * out[image, :, 4].sigmoid()
        keep = batched_nms(boxes, score, label, 0.65)
        keep = keep[score[keep] > 0.01][:100]
        keep = keep[(boxes[keep, 2:] > 0).all(1)]  # those beyond the image are dropped at the end
        valid = found["valid"][image]
        assert 10 < valid.sum() == len(keep)
        torch.testing.assert_close(found["boxes"][image, valid], boxes[keep].clamp(min=0))
        torch.testing.assert_close(found["scores"][image, valid], score[keep])
        assert torch.equal(found["labels"][image, valid], label[keep])


def test_levels_of_any_channels_and_strides() -> None:
    specs = {f"p{n}": FeatureSpec(3 * n, (2**n, 2**n)) for n in (2, 3, 4)}
    made = YOLOX(specs, CLASSES, levels=["p2", "p3", "p4"], channels=8)
    levels = {
        name: torch.randn(1, spec.channels, *(side // spec.stride[0] for side in SIDES))
        for name, spec in specs.items()
    }
    levels["c0"] = torch.zeros(1, 3, *SIDES)
    sum(made.loss(levels, targets([3])).values()).backward()
    assert all(p.grad is not None for p in made.parameters())
