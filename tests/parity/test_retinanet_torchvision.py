"""Same weights, same pictures: torchvision's RetinaNet and ours, v1 and v2."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import (
    RetinaNet,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from densekit.interop.torchvision_retinanet import convert, convert_retinanet, matches
from tests.parity.torchvision_detector import pictures, scale_outputs, standardise
from tests.parity.torchvision_one_stage import check_detections, check_training, detections

pytestmark = pytest.mark.parity

OUTPUTS, ANCHORS, CHANNELS = 5, 9, 64


def build(version: int, **settings: Any) -> RetinaNet:
    """On a ResNet-18, in float64; version 2 has group norm, and takes p6 from c5."""
    torch.manual_seed(0)
    source = CHANNELS if version == 1 else 512
    backbone = BackboneWithFPN(
        resnet18(norm_layer=FrozenBatchNorm2d),
        {f"layer{number}": str(number) for number in (2, 3, 4)},
        [128, 256, 512],
        CHANNELS,
        LastLevelP6P7(source, CHANNELS),
    )
    norm = None if version == 1 else partial(nn.GroupNorm, 32)
    head = RetinaNetHead(CHANNELS, ANCHORS, OUTPUTS, norm_layer=norm)
    if version == 2:
        head.regression_head._loss_type = "giou"
    return RetinaNet(backbone, OUTPUTS, head=head, **settings).double().eval()


def trained(version: int, **settings: Any) -> tuple[RetinaNet, list[Tensor]]:
    """A model whose scores spread and whose boxes move, and two pictures."""
    model = build(version, min_size=96, max_size=128, **settings)
    images = [image.double() for image in pictures(2, longest=128)]
    head: Any = model.head
    with torch.no_grad():
        standardise(model, images)
        stds = {head.classification_head.cls_logits: 2.0, head.regression_head.bbox_reg: 0.3}
        scale_outputs(model, images, stds)
    return model, images


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("per_level", [1000, 50])
def test_detections_are_equal(version: int, per_level: int) -> None:
    check_detections(*trained(version, topk_candidates=per_level))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("counts", [(3, 5), (0, 2)])
def test_losses_and_gradients_are_equal(version: int, counts: tuple[int, int]) -> None:
    terms = {"classification": "cls", "bbox_regression": "box"}
    check_training(*trained(version), counts, terms)


@pytest.mark.parametrize("version", [1, 2])
def test_output_0_is_left_out_if_there_is_no_name_for_it(version: int) -> None:
    """Its scores are independent of the others; no detection is cut off here."""
    theirs, images = trained(version, topk_candidates=10_000, detections_per_img=10_000)
    with torch.no_grad():
        expected = theirs(images)

    found = convert_retinanet(theirs, names=list("abcd")).model

    assert found.info["heads"]["detection"]["ids"] == [1, 2, 3, 4]
    for ours, rows in zip(detections(found, images), expected, strict=True):
        kept = rows["labels"] > 0
        scores = torch.as_tensor(ours["scores"])
        torch.testing.assert_close(scores, rows["scores"][kept], check_dtype=False)
        assert torch.equal(torch.as_tensor(ours["labels"]), rows["labels"][kept] - 1)


@pytest.mark.parametrize("make", [retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2])
def test_a_state_dict_converts_as_the_model_does(make: Any) -> None:
    torch.manual_seed(0)
    theirs = make(weights=None, weights_backbone=None, num_classes=3, trainable_backbone_layers=3)
    state = theirs.state_dict()
    assert matches(state)

    found, expected = convert(state), convert_retinanet(theirs)

    assert found.config["heads"] == expected.config["heads"]
    assert found.config["neck"] == expected.config["neck"]
    own, model = found.model.state_dict(), expected.model.state_dict()
    assert all(torch.equal(own[name], model[name]) for name in own | model)
