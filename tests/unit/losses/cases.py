"""Every loss with every layout of the mask, for tests that hold for all of them.

B images, K classes, S the D sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit import losses

LOSSES: dict[str, nn.Module] = {
    "ce": losses.PixelCrossEntropy(),
    "ce smoothed": losses.PixelCrossEntropy(label_smoothing=0.1),
    "ce hardest": losses.PixelCrossEntropy(ohem=losses.HardestFraction(0.5)),
    "ce hard": losses.PixelCrossEntropy(ohem=losses.HardPixels(0.4, min_kept=3)),
    "dice": losses.Dice(),
    "dice of the batch": losses.Dice(batch=True, include_background=False),
    "dice squared": losses.Dice(squared=True),
    "generalised dice": losses.GeneralisedDice(),
    "generalised dice of the batch": losses.GeneralisedDice(batch=True, include_background=False),
    "tversky": losses.Tversky(),
    "focal tversky": losses.Tversky(gamma=4 / 3),
    "focal": losses.Focal(alpha=0.25),
    "focal root": losses.Focal(gamma=0.5),
    "lovasz": losses.Lovasz(),
    "lovasz of images": losses.Lovasz(per_image=True),
    "boundary": losses.Boundary(),
}

LAYOUTS = {
    "classes": (3, False),
    "two classes": (2, False),
    "binary": (1, False),
    "labels": (3, True),
}
"""Number of classes, and whether the mask is multi-label."""


def case(
    layout: str,
    sides: tuple[int, ...] = (4, 5),
    batch: int = 2,
    ignored: float = 0.2,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Logits (B, K, *S) and a mask with a share of ignored pixels."""
    classes, multilabel = LAYOUTS[layout]
    random = torch.Generator().manual_seed(seed)
    shape = (batch, classes, *sides)
    logits = 2 * torch.randn(shape, generator=random, dtype=dtype)
    plane = shape if multilabel else (batch, *sides)
    values = 2 if multilabel else max(classes, 2)
    mask = torch.randint(0, values, plane, generator=random, dtype=torch.uint8)
    hidden = torch.rand(plane, generator=random) < ignored
    return logits, mask.masked_fill(hidden, 255)
