"""Cross-entropy of pixels.

B images, K classes, S the D sizes, P pixels of an image; M planes of the mask: 1, or K if it is
multi-label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.losses.ohem import Mining
from densekit.losses.targets import (
    counted,
    exclusive,
    flatten,
    full_precision,
    recomputed,
)
from densekit.ops.dist import global_count
from densekit.types import IGNORE_INDEX


class PixelCrossEntropy(nn.Module):
    """Softmax cross-entropy; binary cross-entropy if K is 1 or the mask is multi-label.

    The mean over the counted pixels (and labels if multi-label) of all processes, weighted as in
    PyTorch: divided by the sum of the weights of the pixels' classes. `ohem` selects among the
    pixels of its own process.

    Args:
        class_weights: One weight per class, at least 0; for background and foreground if K is 1;
            one per label if multi-label.
        label_smoothing: Share of a pixel's target that is spread evenly over all classes (Szegedy
            et al. 2016, section 7); over 0 and 1 for a sigmoid.
        ohem: Selects the hard pixels to learn from by their unweighted loss: `HardestFraction` or
            `HardPixels`; None keeps all.

    Raises:
        ValueError: The smoothing is outside 0..1 or a weight is negative; in the first call, if the
            number of weights is wrong.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ohem: Mining | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"PixelCrossEntropy.label_smoothing: expected 0 to 1, got {label_smoothing}"
            )
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        if weights is not None and (weights < 0).any():
            raise ValueError(
                "PixelCrossEntropy.class_weights: expected weights of at least 0, got"
                f" {class_weights}"
            )
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing
        self.ohem = ohem

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        logits, mask = flatten(logits, mask)
        self._check_weights(logits, mask)
        if self.ohem is not None:
            with torch.no_grad():
                kept = self.ohem(pixel_losses(logits, mask), counted(mask))
            mask = mask.masked_fill(~kept, IGNORE_INDEX)
        total = recomputed(self._sum, logits, mask)
        return total / global_count(self._weights(logits, mask).sum())

    def _sum(self, logits: Tensor, mask: Tensor) -> Tensor:
        if exclusive(logits, mask):
            weights = self.class_weights
            if weights is not None:
                weights = weights.to(full_precision(logits).dtype)
            return pixel_losses(logits, mask, weights, self.label_smoothing).sum()
        weight = self._weights(logits, mask)
        return (pixel_losses(logits, mask, smoothing=self.label_smoothing) * weight).sum()

    def _weights(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Weights (B, M, P) of all pixels, 0 where ignored; bool without class weights."""
        valid, weights = counted(mask), self.class_weights
        if weights is None:
            return valid
        if mask.shape[1] > 1:  # one per label, whether it is 0 or 1
            return valid * weights[:, None]
        return valid * weights[mask.long().clamp(max=len(weights) - 1)]

    def _check_weights(self, logits: Tensor, mask: Tensor) -> None:
        needed = 2 if logits.shape[1] == 1 else logits.shape[1]
        if self.class_weights is not None and len(self.class_weights) != needed:
            which = "background and foreground" if logits.shape[1] == 1 else f"{needed} classes"
            raise ValueError(
                f"PixelCrossEntropy.class_weights: expected one value per class ({which}), got"
                f" {len(self.class_weights)}"
            )


def pixel_losses(
    logits: Tensor, mask: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Returns the cross-entropy (B, M, P) of every pixel, in full precision.

    Args:
        logits: (B, K, P).
        mask: (B, M, P); where it is 255 the loss is 0 for a softmax, arbitrary for a sigmoid.
        weights: (K,) weights of the classes, softmax only.
        smoothing: See `PixelCrossEntropy`.
    """
    logits = full_precision(logits)
    if not exclusive(logits, mask):
        target = (mask == 1).to(logits.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return F.cross_entropy(
        logits,
        mask[:, 0].long(),
        weight=weights,
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=smoothing,
    ).unsqueeze(1)
