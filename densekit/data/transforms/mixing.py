"""Batch transforms that mix images with each other: mixup and CutMix.

B images, C channels, D spatial dimensions, S the D sizes of an image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.data.protocols import BatchTransform
from densekit.types import MASKS, Batch


class MixUp:
    """Weighted means of pairs of images and of their classes (Zhang et al. 2018, "mixup").

    Args:
        alpha: Parameter of the Beta distribution of the weight.

    Raises:
        ValueError: If alpha is not positive.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = _positive(alpha, "MixUp.alpha")

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch with each image mixed with the previous one, all with the same weight."""
        return mixup(batch, float(rng.beta(self.alpha, self.alpha)), num_classes)


class CutMix:
    """Pastes a window of one image into another, classes by area (Yun et al. 2019, "CutMix").

    Args:
        alpha: Parameter of the Beta distribution of the image's own share.

    Raises:
        ValueError: If alpha is not positive.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive(alpha, "CutMix.alpha")

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch with the same window of every image replaced by that of the previous image."""
        share = float(rng.beta(self.alpha, self.alpha))
        centre = [int(rng.integers(side)) for side in batch["image"].shape[2:]]
        return cutmix(batch, share, centre, num_classes)


class RandomChoice:
    """Applies one of several transforms to each batch, all equally likely.

    Args:
        transforms: Names of your choice to batch transforms.
    """

    def __init__(self, transforms: Mapping[str, BatchTransform]) -> None:
        self.transforms = list(transforms.values())

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch after the drawn transform."""
        return self.transforms[int(rng.integers(len(self.transforms)))](batch, num_classes, rng)


def mixup(batch: Batch, share: float, num_classes: int) -> Batch:
    """Mixes each image with the previous one of the batch (equation 1 of the paper).

    Args:
        batch: `image` (B, C, *S), integers are rounded; `category` (B,) or (B, K).
        share: Weight of the image itself, 0..1.
        num_classes: K.

    Returns:
        A new batch whose `category` is (B, K) float32.

    Raises:
        ValueError: If the images differ in size, or the batch has targets that cannot be mixed.
    """
    _check(batch, "MixUp")
    image = batch["image"]
    mixed = _mixed(image.float(), share)
    out = batch.copy()
    out["image"] = mixed if image.is_floating_point() else mixed.round_().to(image.dtype)
    out["category"] = _mixed(_shares(batch["category"], num_classes), share)
    return out


def cutmix(batch: Batch, share: float, centre: Sequence[int], num_classes: int) -> Batch:
    """Replaces a window of each image by that of the previous one (equations 1 and 2 of the paper).

    Works in any dimension; the window is clipped to the image.

    Args:
        batch: See `mixup`.
        share: Share of the image that stays its own before clipping, 0..1.
        centre: Index of the window's centre along each axis.
        num_classes: K.

    Returns:
        A new batch whose `category` is (B, K) float32, weighted by the number of replaced pixels.

    Raises:
        ValueError: See `mixup`.
    """
    _check(batch, "CutMix")
    image = batch["image"].clone()
    reach = 0.5 * (1 - share) ** (1 / len(centre))
    window: list[slice] = [slice(None), slice(None)]
    own = 1.0
    for middle, side in zip(centre, image.shape[2:], strict=True):
        half = int(reach * side)
        window.append(slice(max(0, middle - half), min(side, middle + half)))
        own *= (window[-1].stop - window[-1].start) / side
    image[tuple(window)] = batch["image"].roll(1, 0)[tuple(window)]
    out = batch.copy()
    out["image"] = image
    out["category"] = _mixed(_shares(batch["category"], num_classes), 1 - own)
    return out


def _mixed(values: Tensor, share: float) -> Tensor:
    return values.roll(1, 0).mul_(1 - share).add_(values * share)


def _shares(category: Tensor, num_classes: int) -> Tensor:
    """(B, K) float32 shares: one-hot (B,) classes, or (B, K) shares as they are."""
    return F.one_hot(category, num_classes).float() if category.ndim == 1 else category.float()


def _check(batch: Batch, key: str) -> None:
    other = sorted({"boxes", "mask", *MASKS, "identity", "extra"} & set(batch))
    if other or "category" not in batch:
        found = ", ".join(other) or "no category"
        raise ValueError(f"{key}: expected targets of a category only, got {found}")
    sizes = batch["size"]
    if not torch.equal(sizes, sizes[:1].expand_as(sizes)) or (
        tuple(sizes[0].tolist()) != tuple(batch["image"].shape[2:])
    ):
        raise ValueError(
            f"{key}: expected images of one size, got {sizes.unique(dim=0).tolist()[:5]}; crop"
            " them in train_transform"
        )


def _positive(alpha: float, key: str) -> float:
    if not alpha > 0:
        raise ValueError(f"{key}: expected more than 0, got {alpha}")
    return float(alpha)
