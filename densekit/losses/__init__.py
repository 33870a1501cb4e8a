"""Losses, one per file.

Pixel losses take logits (B, K, *S) and a mask, image losses logits (B, K) and categories; both
return a scalar. Identity losses take embeddings (B, E). Box losses take deltas, anchors and target
boxes (N, 4) and return one value per box.
"""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AdaFace": "ada_face",
        "ArcFace": "combined_margin",
        "BatchHard": "miners",
        "Boundary": "boundary",
        "CombinedMargin": "combined_margin",
        "CosFace": "combined_margin",
        "PixelCrossEntropy": "cross_entropy",
        "CurricularFace": "curricular_face",
        "Dice": "dice",
        "Focal": "focal",
        "GIoUBox": "box",
        "GeneralisedDice": "generalised_dice",
        "HardPixels": "ohem",
        "HardestFraction": "ohem",
        "Lovasz": "lovasz",
        "ImageBinaryCrossEntropy": "categories",
        "ImageCrossEntropy": "categories",
        "MagFace": "mag_face",
        "Margin": "margin",
        "MarginSoftmax": "margin_softmax",
        "PartialFC": "partial_fc",
        "SemiHard": "miners",
        "SmoothL1Box": "box",
        "SphereFace": "combined_margin",
        "SupervisedContrastive": "supervised_contrastive",
        "Triplet": "triplet",
        "Tversky": "tversky",
    },
)
