"""Training passes of torchvision's detector and ours on the same random draws."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode
from torchvision.models.detection import FasterRCNN

from densekit.heads.faster_rcnn import box_head as box_head_module
from densekit.heads.faster_rcnn import rpn as rpn_module
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.interop import from_torchvision
from densekit.model import DenseModel
from densekit.types import Batch

TERMS = {
    "detection/rpn_cls": "loss_objectness",
    "detection/rpn_box": "loss_rpn_box_reg",
    "detection/cls": "loss_classifier",
    "detection/box": "loss_box_reg",
    "detection/mask": "loss_mask",
}

Targets = list[dict[str, Tensor]]


def targets(images: list[Tensor], counts: list[int], num_classes: int) -> Targets:
    generator = torch.Generator().manual_seed(1)
    made = []
    for image, count in zip(images, counts, strict=True):
        height, width = image.shape[1:]
        start = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.6
        side = 16 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.3
        labels = torch.randint(1, num_classes + 1, (count,), generator=generator)
        boxes = torch.cat([start, start + side], 1)
        made.append(
            {
                "boxes": boxes.to(image.dtype),
                "labels": labels,
                "masks": ellipses(boxes, height, width),
            }
        )
    return made


def ellipses(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) uint8: the ellipse in each box (N, 4)."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    near, far = boxes[:, :2], boxes[:, 2:]
    (cx, cy), (rx, ry) = ((near + far) / 2).unbind(1), ((far - near) / 2).unbind(1)
    across = ((x - cx[:, None]) / rx[:, None]).square()  # (N, W)
    down = ((y - cy[:, None]) / ry[:, None]).square()
    return (across[:, None] + down[..., None] < 1).byte()


def as_batch(images: list[Tensor], annotations: Targets) -> Batch:
    size = torch.tensor([image.shape[1:] for image in images])
    stacked = images[0].new_zeros(len(images), 3, *size.amax(0).tolist())
    boxes = images[0].new_zeros(len(images), 16, 4)
    labels = torch.zeros(len(images), 16, dtype=torch.int64)
    valid = torch.zeros(len(images), 16, dtype=torch.bool)
    planes = torch.full((len(images), 16, *stacked.shape[2:]), 255, dtype=torch.uint8)
    for i, (image, rows) in enumerate(zip(images, annotations, strict=True)):
        stacked[i, :, : image.shape[1], : image.shape[2]] = image
        count = len(rows["boxes"])
        boxes[i, :count], labels[i, :count] = rows["boxes"], rows["labels"] - 1
        valid[i, :count] = True
        planes[i, :count, : image.shape[1], : image.shape[2]] = rows["masks"]
    return {
        "image": stacked,
        "size": size,
        "boxes": boxes,
        "labels": labels,
        "boxes_valid": valid,
        "instance_masks": planes,
        "object_masks": torch.full((len(images), 16, 2, 2), 255, dtype=torch.uint8),  # not read
        "sample_valid": torch.ones(len(images), dtype=torch.bool),
        "key": torch.arange(len(images)),
        "meta": [{"original_size": tuple(image.shape[1:])} for image in images],
    }


class Draws(NamedTuple):
    """What was random in a pass of torchvision's: masks of each image, RPN's first; proposals."""

    positive: list[list[Tensor]]
    negative: list[list[Tensor]]
    proposals: list[Tensor]

    def rows(self, stage: int) -> tuple[Tensor, Tensor]:
        """Sampled rows (B, N) of a stage, positive ones first, padded, and which are valid."""
        pairs = zip(self.positive[stage], self.negative[stage], strict=True)
        return padded([torch.cat([p.nonzero(), n.nonzero()])[:, 0] for p, n in pairs])


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Lists of different length as one tensor, and where it holds something."""
    valid = pad_sequence([torch.ones(len(r), dtype=torch.bool) for r in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True), valid


def record(model: FasterRCNN) -> Draws:
    """Keeps what torchvision's two samplers draw, and the proposals, of the pass that follows."""
    draws = Draws([], [], [])

    def keep(draw: Any, labels: list[Tensor]) -> Any:
        positive, negative = draw(labels)
        draws.positive.append(positive), draws.negative.append(negative)
        return positive, negative

    def keep_proposals(module: object, inputs: tuple[Any, ...]) -> None:
        draws.proposals.extend(boxes.detach().clone() for boxes in inputs[1])

    for stage in (model.rpn, model.roi_heads):
        stage.fg_bg_sampler = lambda labels, draw=stage.fg_bg_sampler: keep(draw, labels)
    model.roi_heads.register_forward_pre_hook(keep_proposals)
    return draws


def replay(model: FasterRCNN, draws: Draws) -> None:
    """Makes a torchvision model, perhaps of another dtype, draw what another one drew."""
    pairs = zip((model.rpn, model.roi_heads), draws.positive, draws.negative, strict=True)
    for stage, *masks in pairs:
        stage.fg_bg_sampler = lambda _, masks=masks: masks
    dtype = next(model.parameters()).dtype
    boxes = [rows.to(dtype) for rows in draws.proposals]
    model.rpn.filter_proposals = lambda *_: (boxes, [])


def inject(monkeypatch: pytest.MonkeyPatch, draws: Draws, ours: DenseModel) -> None:
    """Makes ours draw what torchvision drew.

    Behind the proposals lies ground truth in both; ours are padded to the longest list first.
    """
    head = ours.heads["detection"]
    boxes, boxes_valid = padded(draws.proposals)
    theirs = Proposals(boxes.to(next(ours.parameters()).dtype), boxes_valid)
    anchors, (rows, rows_valid) = draws.rows(0), draws.rows(1)
    length = boxes_valid.sum(1, keepdim=True)
    rows = torch.where(rows >= length, rows + boxes.shape[1] - length, rows)
    samples = iter([anchors, (rows, rows_valid)])
    for module in (rpn_module, box_head_module):
        monkeypatch.setattr(module, "sample_balanced", lambda *_: next(samples))
    own = head.rpn.propose

    def proposals_of_torchvision(*arguments: Any) -> Proposals:
        mine, width = own(*arguments), boxes.shape[1]
        assert mine.boxes.shape[1] >= width
        assert (mine.boxes[:, :width] - theirs.boxes).abs().median() < 1e-3
        return theirs

    monkeypatch.setattr(head.rpn, "propose", proposals_of_torchvision)


def keep_dtype_of_objectness(model: FasterRCNN) -> None:
    """Stops torchvision from rounding the objectness loss and its gradient to float32.

    Its labels are float32, and the loss is computed in place in the labels' dtype.
    """
    own = model.rpn.compute_loss
    model.rpn.compute_loss = lambda objectness, deltas, labels, targets: own(
        objectness, deltas, [rows.to(objectness.dtype) for rows in labels], targets
    )


class Pass(NamedTuple):
    """The losses and gradients of a training step under our names, and what was drawn."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]
    draws: Draws


def torchvision_pass(
    model: FasterRCNN, images: list[Tensor], annotations: Targets, draws: Draws | None = None
) -> Pass:
    """A step of a copy of torchvision's model, on the draws of an earlier pass or on its own."""
    used, carrier = copy.deepcopy(model), copy.deepcopy(model)
    keep_dtype_of_objectness(used)
    if draws is None:
        draws = record(used)
    else:
        replay(used, draws)
    losses = used(images, copy.deepcopy(annotations))
    torch.stack(list(losses.values())).sum().backward()
    # the converter brings gradients under our names as it does weights
    for source, target in zip(used.parameters(), carrier.parameters(), strict=True):
        assert source.grad is not None
        target.data = source.grad
    renamed = {name: p.detach() for name, p in from_torchvision(carrier).named_parameters()}
    named = {mine: losses[name].item() for mine, name in TERMS.items() if name in losses}
    return Pass(named, renamed, draws)


def densekit_pass(
    model: FasterRCNN, images: list[Tensor], annotations: Targets, draws: Draws
) -> Pass:
    """The same step of the converted model."""
    ours = from_torchvision(model)
    with pytest.MonkeyPatch.context() as monkeypatch:
        inject(monkeypatch, draws, ours)
        losses = ours.loss(ours.resized(as_batch(images, annotations)))
    torch.stack(list(losses.values())).sum().backward()
    found = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    return Pass({name: value.item() for name, value in losses.items()}, found, draws)


def distances(found: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Largest error of each gradient relative to the reference's largest entry."""
    return {
        name: float((gradient.double() - reference[name]).abs().max() / reference[name].abs().max())
        for name, gradient in found.items()
    }


class Smooth(TorchFunctionMode):
    """Within it every ReLU is a softplus and every max-pool an average, in any model.

    Their gradients do not jump, so that rounding moves them by no more than itself.
    """

    RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.RELUS:
            return F.softplus(args[0], beta=4)
        if func is F.max_pool2d:
            return F.avg_pool2d(*args, stride=kwargs["stride"], padding=kwargs["padding"])
        return func(*args, **kwargs)
