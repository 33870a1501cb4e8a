"""Same weights, same pyramid: smp's FPN and ours give the same logits, loss and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch import FPN
from torch import Tensor, nn

from densekit.heads import SemanticFPN
from densekit.types import FeatureSpec

pytestmark = pytest.mark.parity

CLASSES, WIDTH, SIDES = 5, 16, (64, 96)
STRIDES = {"c0": 1, "p2": 4, "p3": 8, "p4": 16, "p5": 32}
SPECS = {name: FeatureSpec(WIDTH, (stride, stride)) for name, stride in STRIDES.items()}


def theirs() -> nn.ModuleDict:
    """The part of smp's network behind its pyramid, without dropout."""
    settings = {"decoder_pyramid_channels": WIDTH, "decoder_segmentation_channels": 64}
    model = FPN("resnet18", encoder_weights=None, classes=CLASSES, **settings)
    return nn.ModuleDict({"blocks": model.decoder.seg_blocks, "head": model.segmentation_head})


def logits(parts: Any, features: dict[str, Tensor]) -> Tensor:
    levels = ["p5", "p4", "p3", "p2"]
    summed = sum(block(features[n]) for n, block in zip(levels, parts["blocks"], strict=True))
    return parts["head"](summed)  # type: ignore[no-any-return]


def our_name(name: str) -> str:
    """The name of one of smp's tensors here."""
    which, *rest = name.split(".")
    if which == "head":
        return f"classifier.{rest[-1]}"
    level, _, step, _, layer, tensor = rest  # blocks.LEVEL.block.STEP.block.LAYER.TENSOR
    return f"branches.p{5 - int(level)}.{step}.{layer}.{tensor}"


def test_logits_loss_and_gradients_are_those_of_smp() -> None:
    torch.manual_seed(0)
    reference = theirs().double()
    for parameter in reference.parameters():  # a fresh norm would hide a mix-up
        nn.init.normal_(parameter, std=0.2)
    ours = SemanticFPN(SPECS, CLASSES, channels=64, align_corners=True).double()
    ours.load_state_dict({our_name(n): value for n, value in reference.state_dict().items()})
    features = {
        name: torch.randn(2, WIDTH, SIDES[0] // stride, SIDES[1] // stride, dtype=torch.float64)
        for name, stride in STRIDES.items()
    }
    for level in features.values():
        level.requires_grad_()
    mask = torch.randint(0, CLASSES, (2, *SIDES), dtype=torch.uint8)
    mask[0, :9] = 255

    found = ours(features, torch.tensor([SIDES] * 2))["logits"]
    expected = logits(reference, features)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    batch: Any = {"mask": mask}
    loss = ours.loss(features, batch)["ce"]
    expected_loss = F.cross_entropy(expected, mask.long(), ignore_index=255)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0)
    expected_loss.backward(retain_graph=True)
    wanted = {our_name(name): p.grad for name, p in reference.named_parameters()}
    wanted |= {name: features[name].grad.clone() for name in ours.levels}  # type: ignore[union-attr]
    for name in ours.levels:
        features[name].grad = None
    loss.backward()
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    gradients |= {name: features[name].grad for name in ours.levels}
    torch.testing.assert_close(gradients, wanted, rtol=1e-8, atol=1e-10)
