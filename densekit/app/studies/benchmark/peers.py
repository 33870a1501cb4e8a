"""The same network in torchvision or smp for one of ours, with our weights.

A conversion of the peer's network to ours only renames and rearranges numbers. So the conversion of
a network whose numbers count themselves tells where each of ours comes from.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from densekit.app.studies.benchmark.detectors import TERMS, check_detections
from densekit.app.studies.benchmark.images import planes_of
from densekit.app.studies.benchmark.pair import Pair
from densekit.app.studies.benchmark.segmenters import check_logits
from densekit.heads import DeepLabV3Plus, FasterRCNN, MaskRCNN, UNet
from densekit.heads.faster_rcnn import BoxHead
from densekit.interop import convert
from densekit.interop.torchvision_tensors import torchvision_name
from densekit.model import DenseModel
from densekit.types import Batch


class NoPeerError(ValueError):
    """No other library has this network; the message says what it has instead."""


def peer_pair(model: DenseModel, batch: Batch) -> Pair:
    """A network of torchvision or smp with the weights of ours.

    Args:
        model: With one head.
        batch: Resized to the network's frame.

    Raises:
        NoPeerError: There is none.
    """
    if len(model.heads) != 1 or model.info["channel_order"] != "rgb":
        raise NoPeerError("expected one head and RGB images")
    (name, head), *_ = model.heads.items()
    if type(head) in (FasterRCNN, MaskRCNN):
        theirs = _same_weights(torchvision_detector(model), model)
        theirs.transform.resize = _unchanged
        pixels = model.in_unit(batch["image"]).float() / model.full_scale
        images = [
            image[:, :height, :width]
            for image, (height, width) in zip(pixels, batch["size"].tolist(), strict=True)
        ]
        return Pair(
            "torchvision",
            theirs,
            model,
            batch,
            lambda call: {
                TERMS[term].replace("detection", name): loss
                for term, loss in call(images, torchvision_targets(batch)).items()
            },
            lambda call: call(images),
        )
    if type(head) in (UNet, DeepLabV3Plus):
        theirs = _same_weights(_smp(model, head), model)
        normalised = model.normalise(batch["image"], batch["size"])
        return Pair("smp", theirs, model, batch, _no_losses, lambda call: call(normalised))
    raise NoPeerError(
        f"expected FasterRCNN, MaskRCNN, UNet or DeepLabV3Plus, got {type(head).__name__}"
    )


def check_predictions(pair: Pair) -> None:
    """Compares the predictions of the batch.

    Raises:
        NoPeerError: They differ: the peer has other settings.
    """
    check = check_detections if pair.peer == "torchvision" else check_logits
    try:
        check(pair)
    except RuntimeError as error:
        raise NoPeerError(f"{pair.peer} has other settings; {error}") from error


def _no_losses(_: Any) -> Any:
    raise NoPeerError("smp has no training step of its own")


def _unchanged(image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
    """In place of torchvision's resizing: the batch is resized already."""
    return image, target


def torchvision_targets(batch: Any) -> list[dict[str, Tensor]]:
    """The targets of a batch as torchvision's detectors take them, with masks if it has any."""
    valid, size = batch["boxes_valid"], batch["size"].tolist()
    targets = [
        {"boxes": boxes[rows], "labels": labels[rows] + 1}
        for boxes, labels, rows in zip(batch["boxes"], batch["labels"], valid, strict=True)
    ]
    if "object_masks" in batch:
        for target, planes, rows, (height, width) in zip(
            targets, planes_of(batch), valid, size, strict=True
        ):
            target["masks"] = planes[rows, :height, :width]
    return targets


def torchvision_detector(model: DenseModel, **settings: Any) -> nn.Module:
    """Torchvision's Faster or Mask R-CNN with the settings of ours, freshly initialised.

    Args:
        model: With one head, a `FasterRCNN` or `MaskRCNN`.
        settings: Further arguments of torchvision's class, about resizing.

    Raises:
        NoPeerError: The backbone or the box head is not one of torchvision.
    """
    from torchvision.models.detection import FasterRCNN as TheirBoxes
    from torchvision.models.detection import MaskRCNN as TheirMasks
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    head: Any = next(iter(model.heads.values()))
    rpn, box = head.rpn, head.box_head
    if type(box) is not BoxHead:
        raise NoPeerError(f"expected BoxHead, got {type(box).__name__}")
    with_masks = type(head) is MaskRCNN
    settings |= _mask_branch(head) if with_masks else {}
    rule, bins, hidden = rpn.proposals, box.pool.output, box.hidden[0].out_features
    pool = MultiScaleRoIAlign(
        list("0123"), bins, box.pool.samples, canonical_scale=int(box.pool.canonical_size)
    )
    made: nn.Module = (TheirMasks if with_masks else TheirBoxes)(
        _pyramid(model, box.hidden[0].in_features // bins**2),
        image_mean=[value / model.full_scale for value in model.info["mean"]],
        image_std=[value / model.full_scale for value in model.info["std"]],
        rpn_anchor_generator=AnchorGenerator(
            rpn.grid.sizes, (rpn.grid.aspect_ratios,) * len(rpn.grid.sizes)
        ),
        rpn_pre_nms_top_n_train=rule.train_pre_nms,
        rpn_pre_nms_top_n_test=rule.test_pre_nms,
        rpn_post_nms_top_n_train=rule.train_post_nms,
        rpn_post_nms_top_n_test=rule.test_post_nms,
        rpn_nms_thresh=rule.nms_iou,
        rpn_batch_size_per_image=rpn.sampling.count,
        box_roi_pool=pool,
        box_head=TwoMLPHead(box.hidden[0].in_features, hidden),
        box_predictor=FastRCNNPredictor(hidden, head.num_classes + 1),
        box_score_thresh=head.detection.score_threshold,
        box_nms_thresh=head.detection.nms_iou,
        box_detections_per_img=head.detection.max_detections,
        box_batch_size_per_image=box.sampling.count,
        box_positive_fraction=box.sampling.positive_fraction,
        **settings,
    )
    return made


def _mask_branch(head: MaskRCNN) -> dict[str, Any]:
    """Torchvision's mask branch with the settings of ours, as arguments of its `MaskRCNN`."""
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    branch: Any = head.mask_head
    rule, convs = branch.pool, [block[0] for block in branch.convs]
    last = branch.upsample.in_channels
    return {
        "mask_roi_pool": MultiScaleRoIAlign(
            list("0123"), rule.output, rule.samples, canonical_scale=int(rule.canonical_size)
        ),
        "mask_head": MaskRCNNHeads(
            convs[0].in_channels, [conv.out_channels for conv in convs], dilation=1
        ),
        "mask_predictor": MaskRCNNPredictor(last, last, head.num_classes + 1),
    }


def _pyramid(model: DenseModel, width: int) -> nn.Module:
    """Torchvision's ResNet and pyramid, with batch norms of the kind that ours has."""
    import torchvision
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops import FrozenBatchNorm2d

    trained = any("num_batches_tracked" in name for name in model.backbone.state_dict())
    make = getattr(torchvision.models, _encoder(model))
    body = make(weights=None, norm_layer=nn.BatchNorm2d if trained else FrozenBatchNorm2d)
    layers = {f"layer{number + 1}": str(number) for number in range(4)}
    channels = [model.backbone.features[f"c{number}"].channels for number in range(2, 6)]
    pyramid: nn.Module = BackboneWithFPN(body, layers, channels, width)
    return pyramid


def _smp(model: DenseModel, head: Any) -> nn.Module:
    import segmentation_models_pytorch as smp

    make = smp.Unet if type(head) is UNet else smp.DeepLabV3Plus
    classes = int(model.info["heads"][next(iter(model.heads))]["num_classes"])
    made: nn.Module = make(_encoder(model), encoder_weights=None, classes=classes)
    return made


def _encoder(model: DenseModel) -> str:
    """Torchvision's name of our backbone."""
    try:
        return torchvision_name("backbone", model.backbone.state_dict())
    except (ValueError, KeyError) as error:
        raise NoPeerError(str(error)) from error


@torch.no_grad()
def _same_weights(theirs: nn.Module, ours: DenseModel) -> Any:
    """Gives the peer's network, on the device of ours, our weights.

    Raises:
        NoPeerError: The networks have other tensors.
    """
    counting = copy.deepcopy(theirs).double()
    for value in counting.state_dict().values():
        value.copy_(torch.arange(value.numel()).view_as(value))
    found = convert(counting)
    (there,), (here,) = found.model.heads, ours.heads
    places = found.model.state_dict()
    own = {
        name.replace(f"heads.{here}.", f"heads.{there}.", 1): value
        for name, value in ours.state_dict(keep_vars=True).items()
    }
    shapes, theirs_shapes = ({n: v.shape for n, v in of.items()} for of in (own, places))
    differing = sorted({name for name, _ in shapes.items() ^ theirs_shapes.items()})
    if differing:
        raise NoPeerError(f"{found.source} has other layers, such as {differing[0]}")
    theirs.to(ours.mean.device)
    state, trained = theirs.state_dict(), dict(theirs.named_parameters())
    for name, source in found.mapped.items():
        place = places[name].long().flatten().to(ours.mean.device)
        state[source].view(-1)[place] = own[name].flatten()
        if source in trained:
            trained[source].requires_grad_(own[name].requires_grad)
    return theirs
