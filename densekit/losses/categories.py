"""Image classification losses: a scalar from logits (B, K) and categories.

B images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.losses.targets import full_precision
from densekit.ops.dist import global_count


class CategoryLoss(nn.Module):
    """Base class of the image losses; checks class weights and label smoothing.

    Args:
        class_weights: One weight per class, at least 0.
        label_smoothing: Share of an image's target that is spread evenly over all classes (Szegedy
            et al. 2016, section 7); over 0 and 1 for a sigmoid.

    Raises:
        ValueError: The smoothing is outside 0..1 or a weight is negative; in the first call, if the
            number of weights is wrong.
    """

    class_weights: Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"{name}.label_smoothing: expected 0 to 1, got {label_smoothing}")
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        if weights is not None and (weights < 0).any():
            raise ValueError(
                f"{name}.class_weights: expected weights of at least 0, got {class_weights}"
            )
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def _checked(self, logits: Tensor, category: Tensor, fits: bool, expected: str) -> Tensor:
        """Checks the shapes and returns the logits in full precision."""
        name, num_classes = type(self).__name__, logits.shape[1]
        if not fits:
            dtype = str(category.dtype).removeprefix("torch.")
            raise ValueError(
                f"{name}: category: expected {expected} for logits {tuple(logits.shape)}, got"
                f" {tuple(category.shape)} {dtype}"
            )
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"{name}.class_weights: expected one value per class ({num_classes}), got"
                f" {len(self.class_weights)}"
            )
        return full_precision(logits)


class ImageCrossEntropy(CategoryLoss):
    """Cross-entropy of mutually exclusive classes.

    The mean over the images of all processes, weighted as in PyTorch: divided by the sum of the
    weights of the images' classes.

    Args:
        class_weights: See `CategoryLoss`.
        label_smoothing: See `CategoryLoss`.
    """

    def forward(self, logits: Tensor, category: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            logits: (B, K).
            category: (B,) int64 classes, or (B, K) float soft targets that sum to 1, such as those
                of mixup.
        """
        hard = category.ndim == 1 and not category.is_floating_point()
        soft = category.shape == logits.shape and category.is_floating_point()
        fits = (hard and len(category) == len(logits)) or soft
        logits = self._checked(logits, category, fits, "(B,) integers or (B, K) floats")
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        total = F.cross_entropy(
            logits,
            category if hard else category.to(logits.dtype),
            weight=weights,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        if weights is None:
            return total / global_count(torch.tensor(len(logits), device=logits.device))
        of_images = weights[category] if hard else category.to(logits.dtype) @ weights  # (B,)
        return total / global_count(of_images.sum())


class ImageBinaryCrossEntropy(CategoryLoss):
    """Binary cross-entropy of independent labels.

    The mean over the images and labels of all processes, divided by the sum of the weights.

    Args:
        class_weights: See `CategoryLoss`; applied to a label whether it is 0 or 1.
        label_smoothing: See `CategoryLoss`.
    """

    def forward(self, logits: Tensor, category: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            logits: (B, K).
            category: (B, K) floats in 0..1.
        """
        fits = category.shape == logits.shape and category.is_floating_point()
        logits = self._checked(logits, category, fits, "(B, K) floats")
        target = category.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = torch.ones_like(logits[0])
        if self.class_weights is not None:
            weights = self.class_weights.to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="sum")
        return loss / global_count(weights.sum() * len(logits))
