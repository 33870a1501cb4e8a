"""Losses, one idea a file: logits (B, K, *S) and a mask, or (B, K) and categories, to a scalar."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Boundary": "boundary",
        "CrossEntropy": "cross_entropy",
        "Dice": "dice",
        "Focal": "focal",
        "GeneralisedDice": "generalised_dice",
        "HardPixels": "ohem",
        "HardestFraction": "ohem",
        "Lovasz": "lovasz",
        "SigmoidCrossEntropy": "categories",
        "SoftmaxCrossEntropy": "categories",
        "Tversky": "tversky",
    },
)
