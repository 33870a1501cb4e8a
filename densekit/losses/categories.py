"""Losses of whole images: logits (B, K) and categories to a scalar.

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
    """What both losses share: weights and smoothing, checked.

    Args:
        class_weights: One a class.
        label_smoothing: Share of an image's target that is spread over all classes (Szegedy et al.
            2016, section 7); over on and off for a sigmoid.

    Raises:
        ValueError: For a smoothing outside 0..1 or a negative weight, and at the first call if the
            number of weights is wrong.
    """

    class_weights: Tensor | None

    def __init__(
        self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"{name}.label_smoothing: 0 to 1, found {label_smoothing}")
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        if weights is not None and (weights < 0).any():
            raise ValueError(f"{name}.class_weights: 0 or more, found {class_weights}")
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def _checked(self, logits: Tensor, accepted: bool, category: Tensor) -> Tensor:
        """The logits in full precision, once everything has the right shape."""
        name, num_classes = type(self).__name__, logits.shape[1]
        if not accepted:
            found = f"{tuple(category.shape)} {str(category.dtype).removeprefix('torch.')}"
            raise ValueError(f"{name}: category is {found}, logits are {tuple(logits.shape)}")
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"{name}.class_weights: found {len(self.class_weights)} values, accepted is one"
                f" each for {num_classes} classes"
            )
        return full_precision(logits)


class ImageCrossEntropy(CategoryLoss):
    """Cross-entropy of classes that exclude each other.

    The mean over images, weighted as PyTorch does it: divided by the summed weights of the images'
    classes, those of all processes together.

    Args:
        class_weights: See `CategoryLoss`.
        label_smoothing: See `CategoryLoss`.
    """

    def forward(self, logits: Tensor, category: Tensor) -> Tensor:
        """The loss, ().

        Args:
            logits: (B, K).
            category: (B,) int64 classes, or (B, K) floats, shares that sum to 1 as mixup makes
                them.
        """
        hard = category.ndim == 1 and not category.is_floating_point()
        soft = category.shape == logits.shape and category.is_floating_point()
        logits = self._checked(logits, (hard and len(category) == len(logits)) or soft, category)
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

    The mean over images and labels, divided by the summed weights, of all processes together.

    Args:
        class_weights: See `CategoryLoss`; of a label whether it is on or off.
        label_smoothing: See `CategoryLoss`.
    """

    def forward(self, logits: Tensor, category: Tensor) -> Tensor:
        """The loss, ().

        Args:
            logits: (B, K).
            category: (B, K) floats in 0..1.
        """
        fits = category.shape == logits.shape and category.is_floating_point()
        logits = self._checked(logits, fits, category)
        target = category.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        weights = torch.ones_like(logits[0])
        if self.class_weights is not None:
            weights = self.class_weights.to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="sum")
        return loss / global_count(weights.sum() * len(logits))
