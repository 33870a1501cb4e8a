"""Same weights, same pictures: torchvision's detector and ours give the same boxes and losses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.ops import box_iou

from densekit.heads.faster_rcnn import box_head as box_head_module
from densekit.heads.faster_rcnn import rpn as rpn_module
from densekit.heads.faster_rcnn.proposals import Proposals
from densekit.inference import Predictor
from densekit.interop import from_torchvision
from densekit.model import DenseModel
from densekit.types import Batch
from tests.parity.torchvision_detector import build, calibrate, pictures

pytestmark = pytest.mark.parity

NAMES = ["resnet18", "resnet34", "resnet50", "resnet50_v2"]


def rows_as_tensors(result: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.as_tensor(result[key]) for key in ("boxes", "scores", "labels")}


def unmatched(
    theirs: dict[str, Tensor], ours: dict[str, Tensor], pixels: float, score: float
) -> Tensor:
    """Rows of torchvision without a row of ours of the same label, box and score."""
    close = (theirs["boxes"][:, None] - ours["boxes"]).abs().amax(2) <= pixels
    close &= (theirs["scores"][:, None] - ours["scores"]).abs() <= score
    close &= theirs["labels"][:, None] - 1 == ours["labels"]
    return (~close.any(1)).nonzero()[:, 0]


def is_borderline(theirs: dict[str, Tensor], row: int, margin: float = 1e-4) -> bool:
    """Whether rounding decides about a row: a score at a cut, or an IoU at the threshold."""
    scores = theirs["scores"]
    at_cut = (scores[row] - scores.min()).abs() < margin or (scores[row] - 0.05).abs() < margin
    same = theirs["labels"] == theirs["labels"][row]
    iou = box_iou(theirs["boxes"][row][None], theirs["boxes"][same])
    return bool(at_cut or ((iou - 0.5).abs() < margin).any())


@pytest.mark.parametrize("name", NAMES)
def test_detections_of_twenty_pictures_are_equal(name: str) -> None:
    count = 20 if name == "resnet18" else 4
    torchvision_model = build(name, min_size=320, max_size=400)
    images = pictures(count)
    calibrate(torchvision_model, images[:3])
    predict = Predictor(from_torchvision(torchvision_model)).head("detection")
    total = lost = 0
    with torch.inference_mode():
        for image in images:
            theirs, ours = torchvision_model([image])[0], rows_as_tensors(predict([image])[0])
            assert (theirs["scores"] > 0.5).sum() >= 10
            rows = unmatched(theirs, ours, pixels=1e-3, score=1e-5)
            assert all(is_borderline(theirs, int(row)) for row in rows)
            total, lost = total + len(theirs["boxes"]), lost + len(rows)
    assert lost <= total // 1000


def test_float64_leaves_no_difference_but_the_results_own_rounding() -> None:
    torchvision_model = build("resnet50_v2", min_size=320, max_size=400).double()
    images = [image.double() for image in pictures(2)]
    calibrate(torchvision_model, images)
    predict = Predictor(from_torchvision(torchvision_model)).head("detection")
    with torch.inference_mode():
        for image in images:
            theirs, ours = torchvision_model([image])[0], rows_as_tensors(predict([image])[0])
            assert len(unmatched(theirs, ours, pixels=1e-4, score=1e-6)) == 0


def test_a_batch_of_mixed_sizes_equals_torchvisions_batch() -> None:
    torchvision_model = build("resnet18", min_size=320, max_size=400)
    images = pictures(3)
    calibrate(torchvision_model, images)
    predict = Predictor(from_torchvision(torchvision_model), batch_size=3).head("detection")
    with torch.inference_mode():
        for theirs, ours in zip(torchvision_model(images), predict(images), strict=True):
            assert len(unmatched(theirs, rows_as_tensors(ours), pixels=1e-3, score=1e-5)) == 0


# --- losses and gradients, with torchvision's random draws injected into ours ---------------------


def targets(images: list[Tensor], counts: list[int], num_classes: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for image, count in zip(images, counts, strict=True):
        height, width = image.shape[1:]
        start = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.6
        side = 16 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.3
        labels = torch.randint(1, num_classes + 1, (count,), generator=generator)
        made.append(
            {"boxes": torch.cat([start, start + side], 1).to(image.dtype), "labels": labels}
        )
    return made


def as_batch(images: list[Tensor], annotations: list[dict[str, Tensor]]) -> Batch:
    size = torch.tensor([image.shape[1:] for image in images])
    stacked = images[0].new_zeros(len(images), 3, *size.amax(0).tolist())
    boxes = images[0].new_zeros(len(images), 16, 4)
    labels = torch.zeros(len(images), 16, dtype=torch.int64)
    valid = torch.zeros(len(images), 16, dtype=torch.bool)
    for i, (image, rows) in enumerate(zip(images, annotations, strict=True)):
        stacked[i, :, : image.shape[1], : image.shape[2]] = image
        count = len(rows["boxes"])
        boxes[i, :count], labels[i, :count] = rows["boxes"], rows["labels"] - 1
        valid[i, :count] = True
    return {
        "image": stacked,
        "size": size,
        "boxes": boxes,
        "labels": labels,
        "boxes_valid": valid,
        "sample_valid": torch.ones(len(images), dtype=torch.bool),
        "key": torch.arange(len(images)),
        "meta": [{"original_size": tuple(image.shape[1:])} for image in images],
    }


class Recorder:
    """Keeps what torchvision's two samplers drew and which proposals there were."""

    def __init__(self, model: FasterRCNN) -> None:
        self.draws: list[tuple[Tensor, Tensor]] = []
        self.proposals: list[Tensor] = []
        for stage in (model.rpn, model.roi_heads):
            sampler = stage.fg_bg_sampler
            stage.fg_bg_sampler = lambda labels, draw=sampler: self._draw(draw, labels)
        model.roi_heads.register_forward_pre_hook(self._keep_proposals)

    def _draw(self, draw: Any, labels: list[Tensor]) -> Any:
        positive, negative = draw(labels)
        rows = [(p | n).nonzero()[:, 0] for p, n in zip(positive, negative, strict=True)]
        width = max(len(r) for r in rows)
        index = torch.zeros(len(rows), width, dtype=torch.int64)
        valid = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, r in enumerate(rows):
            index[i, : len(r)], valid[i, : len(r)] = r, True
        self.draws.append((index, valid))
        return positive, negative

    def _keep_proposals(self, module: object, inputs: tuple[Any, ...]) -> None:
        self.proposals = [boxes.detach().clone() for boxes in inputs[1]]

    def padded_proposals(self) -> Proposals:
        width = max(len(boxes) for boxes in self.proposals)
        boxes = self.proposals[0].new_zeros(len(self.proposals), width, 4)
        valid = torch.zeros(len(self.proposals), width, dtype=torch.bool)
        for i, rows in enumerate(self.proposals):
            boxes[i, : len(rows)], valid[i, : len(rows)] = rows, True
        return Proposals(boxes, valid)


def inject(monkeypatch: pytest.MonkeyPatch, recorder: Recorder, ours: DenseModel) -> None:
    """Makes ours draw what torchvision drew.

    Behind the proposals lies ground truth in both; ours are padded to the longest list first.
    """
    (anchors, regions), counts = recorder.draws, [len(boxes) for boxes in recorder.proposals]
    length = torch.tensor(counts)[:, None]
    rows = torch.where(regions[0] >= length, regions[0] + max(counts) - length, regions[0])
    draws = iter([anchors, (rows, regions[1])])
    for module in (rpn_module, box_head_module):
        monkeypatch.setattr(module, "sample_balanced", lambda *_: next(draws))
    head = ours.heads["detection"]
    own = head.rpn.propose

    def proposals_of_torchvision(*arguments: Any) -> Proposals:
        theirs, mine = recorder.padded_proposals(), own(*arguments)
        assert mine.boxes.shape[1] >= theirs.boxes.shape[1]
        width = theirs.boxes.shape[1]
        assert (mine.boxes[:, :width] - theirs.boxes).abs().median() < 1e-3
        return theirs

    monkeypatch.setattr(head.rpn, "propose", proposals_of_torchvision)


@pytest.mark.parametrize(
    ("name", "dtype", "counts", "gradient_tolerance"),
    [
        # None: losses alone. Gradients differ here by up to 2e-3 of a parameter's maximum, and why
        # is not known yet
        ("resnet18", torch.float32, [9, 5], None),
        ("resnet18", torch.float64, [9, 0], 1e-6),
        ("resnet50", torch.float64, [4, 7], 1e-6),
        ("resnet50_v2", torch.float64, [6, 3], None),
    ],
)
def test_losses_and_gradients_are_equal(
    name: str,
    dtype: torch.dtype,
    counts: list[int],
    gradient_tolerance: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 192 if name == "resnet18" else 128
    theirs = build(name, min_size=size, max_size=size).to(dtype)
    images = [image.to(dtype) for image in pictures(2, longest=size)]
    calibrate(theirs, images)
    if name != "resnet18":  # its norm is trained; batch statistics must agree too
        theirs.train()
    theirs.transform.min_size, theirs.transform.max_size = (size,), size
    annotations = targets(images, counts, num_classes=7)
    ours = from_torchvision(copy.deepcopy(theirs))
    theirs.rpn.train(), theirs.roi_heads.train(), theirs.train()
    ours.train()

    pristine = copy.deepcopy(theirs)
    recorder = Recorder(theirs)
    expected = theirs(images, copy.deepcopy(annotations))
    sum(expected.values()).backward()
    inject(monkeypatch, recorder, ours)
    losses = ours.loss(ours.resized(as_batch(images, annotations)))
    sum(losses.values()).backward()

    # torchvision computes its objectness loss in float32, whatever the network's dtype
    tolerance = 1e-4 if dtype == torch.float32 else 1e-6
    pairs = {
        "detection/rpn_cls": "loss_objectness",
        "detection/rpn_box": "loss_rpn_box_reg",
        "detection/cls": "loss_classifier",
        "detection/box": "loss_box_reg",
    }
    for mine, their in pairs.items():
        assert float(losses[mine]) == pytest.approx(float(expected[their]), rel=tolerance, abs=1e-9)
    if gradient_tolerance is not None:
        check_gradients(theirs, pristine, ours, gradient_tolerance)


def check_gradients(
    theirs: FasterRCNN, carrier: FasterRCNN, ours: DenseModel, tolerance: float
) -> None:
    """Every parameter's gradient, relative to its largest entry, through the converter's names.

    `carrier` is a copy of torchvision's model, converted with gradients in place of weights.
    """
    for source, target in zip(theirs.parameters(), carrier.parameters(), strict=True):
        target.data = torch.zeros_like(source) if source.grad is None else source.grad
    expected = dict(from_torchvision(carrier).named_parameters())
    for name, parameter in ours.named_parameters():
        if not parameter.requires_grad:
            continue
        reference = expected[name]
        assert parameter.grad is not None, name
        scale = float(reference.abs().max()) + 1e-9
        assert float((parameter.grad - reference).abs().max()) <= tolerance * scale + 1e-12, name


def test_uint8_pictures_are_brought_to_torchvisions_unit_before_resizing() -> None:
    torchvision_model = build("resnet18", min_size=160, max_size=200)
    images = [(image * 255).round().to(torch.uint8) for image in pictures(1)]
    calibrate(torchvision_model, [image / 255 for image in images])
    predict = Predictor(from_torchvision(torchvision_model)).head("detection")
    with torch.inference_mode():
        theirs = torchvision_model([images[0] / 255])[0]
    ours = rows_as_tensors(predict([images[0].permute(1, 2, 0).numpy()])[0])
    assert len(unmatched(theirs, ours, pixels=1e-3, score=1e-5)) == 0
