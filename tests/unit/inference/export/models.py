"""Tiny models with every head, and a look for differences that ties and rounding may not hide."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from acme_centernet.head import CenterNet

from densekit.backbones import ResNet
from densekit.heads import (
    FCN,
    FCOS,
    Classification,
    DeepLabV3,
    DeepLabV3Plus,
    Embedding,
    FasterRCNN,
    PSPNet,
    RetinaNet,
    SemanticFPN,
    SmpHead,
    UNet,
    UPerNet,
)
from densekit.heads.faster_rcnn import RPN, BoxHead
from densekit.heads.faster_rcnn.rules import ProposalRule
from densekit.heads.one_stage.rules import DenseDetectionRule
from densekit.model import DenseModel
from densekit.necks import FPN
from tests.unit.tiny import TinyBackbone, spread

CLASSES = 3
DENSE: dict[str, Any] = {
    "unet": partial(UNet, num_classes=CLASSES, decoder_channels=(16, 8, 8, 8, 8)),
    "deeplabv3": partial(DeepLabV3, num_classes=CLASSES, channels=8),
    "deeplabv3plus": partial(DeepLabV3Plus, num_classes=CLASSES, channels=8),
    "fcn": partial(FCN, num_classes=CLASSES),
    "pspnet": partial(PSPNet, num_classes=CLASSES),
    "upernet": partial(UPerNet, num_classes=CLASSES, channels=8),
    "semantic_fpn": partial(SemanticFPN, num_classes=CLASSES, channels=8),
    "linknet": partial(SmpHead, num_classes=CLASSES, decoder="linknet"),
    "kind": partial(Classification, num_classes=CLASSES),
    "twins": partial(Embedding, num_identities=3, embedding_size=4),
}
"""Heads without boxes: any batch, any size."""
BOXED: dict[str, Any] = {
    "two_stage": partial(
        FasterRCNN,
        num_classes=CLASSES,
        rpn=partial(RPN, proposals=ProposalRule(test_pre_nms=100, test_post_nms=60)),
        box_head=partial(BoxHead, hidden=(16,)),
    ),
    "one_stage": partial(
        RetinaNet, num_classes=CLASSES, depth=1, detection=DenseDetectionRule(per_level=100)
    ),
    "points": partial(
        FCOS, num_classes=CLASSES, depth=1, detection=DenseDetectionRule(0.2, 0.6, per_level=100)
    ),
    "plugged_in": partial(CenterNet, num_classes=CLASSES, channels=8),
}
"""Heads with boxes, that of docs/examples/plugin_head among them: any batch, a fixed size."""


def dense_model() -> DenseModel:
    """One model with all heads of `DENSE`."""
    torch.manual_seed(0)
    return DenseModel(ResNet(18, width=8), DENSE, partial(FPN, out_channels=8)).eval()


def boxed_model(*names: str) -> DenseModel:
    """One model with heads of `BOXED`, all of them by default; scores differ, some are high."""
    torch.manual_seed(0)
    heads = {name: BOXED[name] for name in names or BOXED}
    model = DenseModel(TinyBackbone(), heads, partial(FPN, out_channels=8, extra="conv")).eval()
    make_confident(model)
    return model


def make_confident(model: DenseModel) -> None:
    """Spreads the scores of heads with boxes around 0.5, and gives boxes of centres a size."""
    spread(model)
    for name, parameter in model.named_parameters():
        if name.endswith(("logits.bias", "heatmap.2.bias")):
            torch.nn.init.zeros_(parameter)
        if name.endswith("sides.2.bias"):
            torch.nn.init.constant_(parameter, 4.0)
