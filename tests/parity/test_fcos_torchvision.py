"""Same weights, same pictures: torchvision's FCOS and ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import FCOS, fcos_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from densekit.interop import from_torchvision
from densekit.interop.torchvision_fcos import convert, convert_fcos, matches
from tests.parity.torchvision_detector import pictures, scale_outputs, standardise
from tests.parity.torchvision_one_stage import check_detections, check_training

pytestmark = pytest.mark.parity

OUTPUTS, CHANNELS = 5, 64
TERMS = {"classification": "cls", "bbox_regression": "box", "bbox_ctrness": "centerness"}


def build(**settings: Any) -> FCOS:
    """On a ResNet-18, in float64."""
    torch.manual_seed(0)
    backbone = BackboneWithFPN(
        resnet18(norm_layer=FrozenBatchNorm2d),
        {f"layer{number}": str(number) for number in (2, 3, 4)},
        [128, 256, 512],
        CHANNELS,
        LastLevelP6P7(CHANNELS, CHANNELS),
    )
    return FCOS(backbone, OUTPUTS, **settings).double().eval()


def trained(**settings: Any) -> tuple[FCOS, list[Tensor]]:
    """A model whose scores spread and whose boxes have sizes, and two pictures."""
    model = build(min_size=96, max_size=128, **settings)
    images = [image.double() for image in pictures(2, longest=128)]
    head: Any = model.head
    with torch.no_grad():
        standardise(model, images)
        boxes = head.regression_head
        stds = {head.classification_head.cls_logits: 2.0, boxes.bbox_reg: 0.3}
        scale_outputs(model, images, stds | {boxes.bbox_ctrness: 1.0})
        boxes.bbox_reg.bias += 1.5
        for parameter in head.parameters():  # fresh biases are 0
            if parameter.ndim == 1:
                parameter += 0.05 * torch.randn_like(parameter)
    return model, images


@pytest.mark.parametrize("settings", [{}, {"topk_candidates": 50, "score_thresh": 0.3}])
def test_detections_are_equal(settings: dict[str, float]) -> None:
    check_detections(*trained(**settings))


@pytest.mark.parametrize("counts", [(3, 5), (0, 2)])
def test_losses_and_gradients_are_equal(counts: tuple[int, int]) -> None:
    check_training(*trained(center_sampling_radius=1.2), counts, TERMS)


def test_a_state_dict_converts_as_the_model_does() -> None:
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    state = theirs.state_dict()
    assert matches(state)

    found, expected = convert(state), convert_fcos(theirs)

    assert found.config["heads"] == expected.config["heads"]
    own, model = found.model.state_dict(), expected.model.state_dict()
    assert all(torch.equal(own[name], model[name]) for name in own | model)


def test_other_points_are_refused() -> None:
    generator = AnchorGenerator(((4,), (8,), (16,), (32,), (64,)), ((1.0,),) * 5)
    with pytest.raises(ValueError, match="from_torchvision: expected square anchors of one stride"):
        from_torchvision(build(anchor_generator=generator))
