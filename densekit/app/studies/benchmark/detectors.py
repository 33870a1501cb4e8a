"""Torchvision's Faster and Mask R-CNN and ours with the same weights, images and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN

from densekit.app.studies.benchmark.images import batch_of, planes_of
from densekit.app.studies.benchmark.pair import (
    Options,
    Pair,
    as_text,
    check_losses,
    predictions_of,
    rows_of,
)
from densekit.app.studies.benchmark.work import Work
from densekit.data import Scenes
from densekit.interop import from_torchvision

PEER = "torchvision"
ALL_ROWS = 1 << 30
"""A sample count so large that samplers take every row: nothing in the proof is random."""
SPREAD = 3.0
"""Standard deviation of the class logits."""
OBJECTS = 0.05
"""Share of the proposals that are no background."""
PROOF_SIZE, PROOF_BATCH = [128, 160], 2
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-3
"""Pixels and scores: a ResNet-50 whose logits are spread amplifies rounding of float32 so far."""
MATCHED = 0.99
"""Share of the peer's detections that must be ours: rounding may decide a suppression."""
TERMS = {
    "loss_classifier": "detection/cls",
    "loss_box_reg": "detection/box",
    "loss_objectness": "detection/rpn_cls",
    "loss_rpn_box_reg": "detection/rpn_box",
    "loss_mask": "detection/mask",
}


def detector_work(options: Options) -> Work:
    """A training step or a prediction of Faster R-CNN.

    Raises:
        RuntimeError: Losses or detections differ: timing unequal models means nothing.
    """
    proof = detector_pair(options, PROOF_SIZE, PROOF_BATCH, proof=True)
    pair = detector_pair(options, options["size"], options["batch"])
    return compared("Faster R-CNN", options, proof, pair)


def compared(name: str, options: Options, proof: Pair, pair: Pair) -> Work:
    """The work of a pair of detectors, once a small pair is proven equal.

    Raises:
        RuntimeError: Losses or detections of the proof differ.
    """
    gap = check_losses(proof)
    check_detections(proof)
    return Work(
        f"{options['step']}: {name}, ResNet-{options['depth']} FPN,"
        f" {options['batch']} x {as_text(options['size'])}",
        f"losses within {gap:.1e} (relative); boxes within {BOX_TOLERANCE} pixels, scores within"
        f" {SCORE_TOLERANCE}",
        rows_of(pair, options),
    )


def detector_pair(
    options: Options,
    size: Sequence[int],
    batch: int,
    *,
    proof: bool = False,
    with_masks: bool = False,
) -> Pair:
    """Both detectors with seeded random weights and plain batch norm, all of it trained."""
    make = MaskRCNN if with_masks else FasterRCNN
    theirs = _torchvision(make, options, size, proof=proof)
    data: Any = batch_of(
        Scenes("train", batch, size=size, instance_masks=with_masks), options["device"]
    )
    images = [image.float() / 255 for image in data["image"]]
    calibrate(theirs, images)
    ours: Any = from_torchvision(theirs).to(memory_format=torch.channels_last)
    data["labels"] = data["labels"] % int(options["classes"])
    if proof:
        _bound_samplers(ours, data["boxes"].shape[1])
    targets = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(
            data["boxes"], data["labels"], data["boxes_valid"], strict=True
        )
    ]
    if with_masks:
        planes = planes_of(data)
        for target, masks, valid in zip(targets, planes, data["boxes_valid"], strict=True):
            target["masks"] = masks[valid]
        if proof:  # torchvision's targets, where ours are of the objects' own frames
            data["instance_masks"] = planes
    return Pair(
        PEER,
        theirs,
        ours,
        data,
        lambda model: {TERMS[name]: loss for name, loss in model(images, targets).items()},
        lambda model: model(images),
    )


def _torchvision(
    make: type[nn.Module], options: Options, size: Sequence[int], *, proof: bool
) -> nn.Module:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{options['depth']}",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
    )
    settings: Mapping[str, Any] = _all_rows() if proof else {}
    model: nn.Module = make(
        body, int(options["classes"]) + 1, min_size=min(size), max_size=max(size), **settings
    )
    return model.to(options["device"])


@torch.no_grad()
def calibrate(model: Any, images: Sequence[Tensor]) -> None:
    """Gives random weights the statistics of trained ones, so that rounding decides little.

    Batch norms take the statistics of the images, without which activations grow with depth. Class
    logits are spread and shifted until few proposals are objects: otherwise hundreds of nearly
    equal scores compete for 100 detections, and their order is chance.

    Args:
        model: A Faster or Mask R-CNN of torchvision, which is left in evaluation mode.
        images: (C, H, W) each, of 0 to 1.
    """
    standardise(model, images)
    predictor, kept = model.roi_heads.box_predictor.cls_score, []
    hook = predictor.register_forward_hook(lambda *call: kept.append(call[2]))
    model(list(images))
    hook.remove()
    (logits,) = kept
    factor = SPREAD / (logits - logits.mean(0)).std()
    predictor.weight *= factor
    predictor.bias.sub_(logits.mean(0)).mul_(factor)
    logits = (logits - logits.mean(0)) * factor
    predictor.bias[0] += (logits[:, 1:].amax(1) - logits[:, 0]).quantile(1 - OBJECTS)


@torch.no_grad()
def standardise(model: Any, images: Sequence[Tensor]) -> None:
    """Gives batch norms the statistics of the images; leaves the model in evaluation mode."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches, of which there is one
    model.train().backbone(model.transform(list(images))[0].tensors)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _all_rows() -> dict[str, Any]:
    return {
        "rpn_batch_size_per_image": ALL_ROWS,
        "rpn_positive_fraction": 1.0,
        "box_batch_size_per_image": ALL_ROWS,
        "box_positive_fraction": 1.0,
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 300,
    }


def _bound_samplers(ours: Any, boxes: int) -> None:
    """Gives our samplers, whose shapes are static, as many slots as there can be rows."""
    head = ours.heads["detection"]
    anchors = 3 * sum(-(-PROOF_SIZE[0] // s) * -(-PROOF_SIZE[1] // s) for s in (4, 8, 16, 32, 64))
    head.rpn.sampling = replace(head.rpn.sampling, count=anchors)
    rows = head.rpn.proposals.train_post_nms + boxes
    head.box_head.sampling = replace(head.box_head.sampling, count=rows)


def check_detections(pair: Pair) -> None:
    """Checks that boxes and scores agree.

    Raises:
        RuntimeError: They differ.
    """
    theirs, ours = predictions_of(pair)
    for i, rows in enumerate(theirs):
        boxes = ours["boxes"][i][ours["valid"][i]]
        scores = ours["scores"][i][ours["valid"][i]]
        close = (rows["boxes"][:, None] - boxes).abs().amax(2) <= BOX_TOLERANCE
        close &= (rows["scores"][:, None] - scores).abs() <= SCORE_TOLERANCE
        if close.any(1).float().mean() < MATCHED:
            raise RuntimeError(f"detections: expected the peer's in image {i}, got others")
