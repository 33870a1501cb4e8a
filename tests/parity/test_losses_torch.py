"""Cross-entropy equals PyTorch's, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densekit.losses import PixelCrossEntropy
from tests.unit.losses.cases import case

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0]])
@pytest.mark.parametrize("sides", [(9,), (6, 7), (3, 4, 5)])
def test_classes(sides, weights, smoothing):
    logits, mask = case("classes", sides)
    logits.requires_grad_()
    ours = PixelCrossEntropy(weights, smoothing)(logits, mask)
    torch_weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    theirs = F.cross_entropy(
        logits, mask.long(), torch_weights, ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("layout", ["binary", "labels"])
def test_sigmoid(layout):
    logits, mask = case(layout)
    valid = mask != 255
    wanted = F.binary_cross_entropy_with_logits(
        logits.reshape(mask.shape)[valid], mask[valid].double()
    )
    torch.testing.assert_close(PixelCrossEntropy()(logits, mask), wanted)
