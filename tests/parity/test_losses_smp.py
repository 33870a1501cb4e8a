"""Dice, Tversky, focal and Lovász losses against segmentation_models_pytorch, ignored pixels too.

Its Dice and Tversky pool the batch and leave absent classes out of the sum (ours count them, as
nnU-Net and MONAI do), so every class is present here. Its focal loss of classes is one sigmoid a
class, its focal Tversky takes the power of the mean: both are not the papers' and not compared. Its
hinge of labels is one ranking of all labels, ours the mean over labels.
"""

from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch import losses as smp

from densekit.losses import Dice, Focal, Lovasz, Tversky
from tests.unit.losses.cases import case

pytestmark = pytest.mark.parity

MODES = {"classes": "multiclass", "binary": "binary", "labels": "multilabel"}


def check(ours, theirs, layout, dtype=torch.float64):
    logits, mask = case(layout, (8, 9), batch=3, dtype=dtype)
    logits.requires_grad_()
    target = mask.long() if layout == "classes" else mask.float()
    losses = [ours(logits, mask), theirs(logits, target)]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", MODES)
def test_dice(layout):
    check(Dice(batch=True), smp.DiceLoss(MODES[layout], ignore_index=255), layout)


@pytest.mark.parametrize("layout", MODES)
def test_tversky(layout):
    theirs = smp.TverskyLoss(MODES[layout], ignore_index=255, alpha=0.2, beta=0.9)
    check(Tversky(0.2, 0.9, batch=True), theirs, layout)


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal(alpha):
    theirs = smp.FocalLoss("binary", alpha=alpha, gamma=1.5, ignore_index=255)
    check(Focal(1.5, alpha), theirs, "binary")


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("layout", ["classes", "binary"])
def test_lovasz(layout, per_image):
    theirs = smp.LovaszLoss(MODES[layout], per_image=per_image, ignore_index=255)
    check(Lovasz(per_image), theirs, layout, torch.float32)
