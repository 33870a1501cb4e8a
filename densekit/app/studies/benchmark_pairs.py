"""A peer's model and ours with the same weights, proven equal, for `densekit benchmark` to time.

Both get the same weights, images and settings. For the proof nothing in training is random:
samplers take every row, and there is no dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from densekit.data import Scenes, SemanticScenes
from densekit.data.collate import collate
from densekit.interop import from_smp, from_torchvision

ALL_ROWS = 1 << 30
"""A sample count so large that samplers take every row."""
SMALL = [128, 160]
"""Size of the two images that the proof uses."""
LOSS_TOLERANCE = 1e-4
BOX_TOLERANCE, SCORE_TOLERANCE, LOGIT_TOLERANCE = 1e-3, 1e-4, 1e-4

Options = Mapping[str, Any]


class Pair(NamedTuple):
    """Two equal models and the calls of each.

    Attributes:
        theirs: The peer's model.
        ours: Ours with its weights.
        their_losses: The peer's losses of the batch, under our names.
        our_losses: Our losses of the batch.
        their_predictions: Predictions in the peer's form.
        our_predictions: Predictions in our form.
    """

    theirs: nn.Module
    ours: Any
    their_losses: Callable[[], Mapping[str, Any]]
    our_losses: Callable[[], Mapping[str, Any]]
    their_predictions: Callable[[], Any]
    our_predictions: Callable[[], Any]


def check_losses(pair: Pair) -> float:
    """Returns the largest relative gap between the losses of both.

    Raises:
        RuntimeError: They differ: timing unequal models means nothing.
    """
    pair.theirs.train()
    pair.ours.train()
    with torch.no_grad():
        theirs, ours = pair.their_losses(), pair.our_losses()
    gap = max(
        abs(float(ours[name]) - float(theirs[name])) / abs(float(theirs[name])) for name in theirs
    )
    if not gap <= LOSS_TOLERANCE:
        raise RuntimeError(f"losses: expected the peer's {dict(theirs)}, got {dict(ours)}")
    return gap


def detector_pair(
    options: Options, size: Sequence[int], batch: int, *, proof: bool = False
) -> Pair:
    """Torchvision's Faster R-CNN with seeded random weights and plain batch norm, all trained."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{options['depth']}",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
    )
    settings = _BOUND if proof else {}
    theirs = FasterRCNN(
        body, int(options["classes"]) + 1, min_size=min(size), max_size=max(size), **settings
    ).to(options["device"])
    ours: Any = from_torchvision(theirs).to(memory_format=torch.channels_last)
    data = _batch(Scenes("train", batch, size=size), options)
    data["labels"] = data["labels"] % int(options["classes"])
    if proof:
        _bound_samplers(ours, data["boxes"].shape[1])
    images = [image.float() / 255 for image in data["image"]]
    targets = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(
            data["boxes"], data["labels"], data["boxes_valid"], strict=True
        )
    ]
    return Pair(
        theirs,
        ours,
        lambda: {_TERMS[name]: loss for name, loss in theirs(images, targets).items()},
        lambda: ours.loss(data),
        lambda: theirs(images),
        lambda: ours.predict(data)["detection"],
    )


_BOUND: dict[str, Any] = {
    "rpn_batch_size_per_image": ALL_ROWS,
    "rpn_positive_fraction": 1.0,
    "box_batch_size_per_image": ALL_ROWS,
    "box_positive_fraction": 1.0,
    "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 300,
}
_TERMS = {
    "loss_classifier": "detection/cls",
    "loss_box_reg": "detection/box",
    "loss_objectness": "detection/rpn_cls",
    "loss_rpn_box_reg": "detection/rpn_box",
}


def _bound_samplers(ours: Any, boxes: int) -> None:
    """Gives our samplers, whose shapes are static, as many slots as there can be rows."""
    head = ours.heads["detection"]
    anchors = 3 * sum(-(-SMALL[0] // s) * -(-SMALL[1] // s) for s in (4, 8, 16, 32, 64))
    head.rpn.sampling = replace(head.rpn.sampling, count=anchors)
    rows = head.rpn.proposals.train_post_nms + boxes
    head.box_head.sampling = replace(head.box_head.sampling, count=rows)


def check_detections(pair: Pair) -> None:
    """Checks that boxes and scores agree.

    Raises:
        RuntimeError: They differ.
    """
    pair.theirs.eval()
    pair.ours.eval()
    with torch.no_grad():
        theirs, ours = pair.their_predictions(), pair.our_predictions()
    for i, rows in enumerate(theirs):
        boxes = ours["boxes"][i][ours["valid"][i]]
        scores = ours["scores"][i][ours["valid"][i]]
        close = (rows["boxes"][:, None] - boxes).abs().amax(2) <= BOX_TOLERANCE
        close &= (rows["scores"][:, None] - scores).abs() <= SCORE_TOLERANCE
        if close.any(1).float().mean() < 0.99:  # rounding may decide a suppression
            raise RuntimeError(f"detections: expected the peer's in image {i}, got others")


def segmenter_pair(
    options: Options, size: Sequence[int], batch: int, *, proof: bool = False
) -> Pair:
    """Smp's U-Net or DeepLabV3+ with seeded random weights, cross-entropy for both."""
    import segmentation_models_pytorch as smp

    make = {"unet": smp.Unet, "deeplabv3plus": smp.DeepLabV3Plus}[options["model"]]
    torch.manual_seed(0)
    theirs: Any = make(
        f"resnet{options['depth']}", encoder_weights=None, classes=int(options["classes"])
    ).to(options["device"])
    ours: Any = from_smp(theirs).to(memory_format=torch.channels_last)
    if proof:
        for module in (*theirs.modules(), *ours.modules()):
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    data = _batch(SemanticScenes("train", batch, size=size), options)
    data["mask"] = data["mask"] % int(options["classes"])
    images, mask = data["image"].float() / 255, data["mask"].long()
    return Pair(
        theirs,
        ours,
        lambda: {"segmentation/ce": F.cross_entropy(theirs(images), mask)},
        lambda: ours.loss(data),
        lambda: theirs(images),
        lambda: ours.predict(data)["segmentation"]["logits"],
    )


def check_logits(pair: Pair) -> None:
    """Checks that the logits of every pixel agree.

    Raises:
        RuntimeError: They differ.
    """
    pair.theirs.eval()
    pair.ours.eval()
    with torch.no_grad():
        gap = (pair.their_predictions() - pair.our_predictions()).abs().max()
    if not gap <= LOGIT_TOLERANCE:
        raise RuntimeError(
            f"logits: expected at most {LOGIT_TOLERANCE} from the peer's, got {float(gap):.1e}"
        )


def _batch(scenes: Scenes, options: Options) -> dict[str, Any]:
    """All scenes as a training batch on the device."""
    samples: list[Any] = [{**scenes[i], "index": i} for i in range(len(scenes))]
    made = collate(samples, training=True)
    device = torch.device(options["device"])
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in made.items()}
