"""Dice, generalised Dice, Tversky and focal loss against MONAI's.

MONAI 1.6 has no ignored pixels in these, so masks here have none.
"""

from __future__ import annotations

import pytest
import torch
from monai import losses as monai

from densekit.losses import Dice, Focal, GeneralisedDice, PixelCrossEntropy, Tversky
from tests.unit.losses.cases import case

pytestmark = pytest.mark.parity

LAYOUTS = ("classes", "two classes", "binary", "labels")


def activation(layout):
    """How MONAI is told the layout."""
    if layout in ("binary", "labels"):
        return {"sigmoid": True}
    return {"softmax": True, "to_onehot_y": True}


def check(ours, theirs, layout, sides=(6, 7), factor=1.0, **tolerance):
    logits, mask = case(layout, sides, batch=3, ignored=0)
    if layout == "classes":
        mask[0, mask[0] == 2] = 0  # absent from the first image
    target = (mask if mask.ndim == logits.ndim else mask[:, None]).double()
    logits.requires_grad_()
    losses = [ours(logits, mask), factor * theirs(logits, target)]
    torch.testing.assert_close(*losses, **tolerance)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*gradients, **tolerance)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dice(layout, batch, squared):
    theirs = monai.DiceLoss(batch=batch, squared_pred=squared, **activation(layout))
    check(Dice(batch, squared), theirs, layout, (3, 4, 5))


def test_dice_without_background():
    theirs = monai.DiceLoss(include_background=False, **activation("classes"))
    check(Dice(include_background=False), theirs, "classes")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("layout", "background"),
    [*((layout, True) for layout in LAYOUTS), ("classes", False), ("two classes", False)],
)
def test_generalised_dice(layout, background, batch):
    none = {"smooth_nr": 1e-12, "smooth_dr": 1e-12}  # its own swamps the weights, see the docstring
    theirs = monai.GeneralizedDiceLoss(
        include_background=background, batch=batch, **none, **activation(layout)
    )
    check(GeneralisedDice(batch, background), theirs, layout, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tversky(layout, batch):
    theirs = monai.TverskyLoss(alpha=0.2, beta=0.9, batch=batch, **activation(layout))
    check(Tversky(0.2, 0.9, batch=batch), theirs, layout)


@pytest.mark.parametrize("layout", ["classes", "two classes"])
def test_dice_and_cross_entropy(layout):
    theirs = monai.DiceCELoss(**activation(layout))
    check(lambda *given: Dice()(*given) + PixelCrossEntropy()(*given), theirs, layout)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_focal(layout, alpha):
    # MONAI's softmax form averages over the zeros of the other classes too; its numbers are
    # float32 whatever it is given.
    softmax = "softmax" in activation(layout)
    theirs = monai.FocalLoss(
        gamma=1.5, alpha=alpha, use_softmax=softmax, to_onehot_y=softmax, include_background=True
    )
    factor = {"classes": 3.0, "two classes": 2.0}.get(layout, 1.0)
    check(
        lambda *given: Focal(1.5, alpha)(*given),
        lambda *given: theirs(*given).double(),
        layout,
        factor=factor,
        atol=1e-6,
        rtol=1e-5,
    )
