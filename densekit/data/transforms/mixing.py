"""Images of a batch mixed with each other: mixup and CutMix.

B images, C channels, D spatial dimensions, S the D sizes of an image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densekit.data.protocols import BatchTransform
from densekit.types import Batch


class MixUp:
    """Weighted means of two images and of their classes (Zhang et al. 2018, "mixup").

    Args:
        alpha: Of the Beta distribution that the weight is drawn from.

    Raises:
        ValueError: If alpha is not positive.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = _positive(alpha, "MixUp.alpha")

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch with one weight for all images, each mixed with the one before."""
        return mixup(batch, float(rng.beta(self.alpha, self.alpha)), num_classes)


class CutMix:
    """A window of one image put into another, classes by area (Yun et al. 2019, "CutMix").

    Args:
        alpha: Of the Beta distribution that the share of the window is drawn from.

    Raises:
        ValueError: If alpha is not positive.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _positive(alpha, "CutMix.alpha")

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch with one window for all images, each out of the one before."""
        share = float(rng.beta(self.alpha, self.alpha))
        centre = [int(rng.integers(side)) for side in batch["image"].shape[2:]]
        return cutmix(batch, share, centre, num_classes)


class RandomChoice:
    """One of several, each as likely, for every batch.

    Args:
        transforms: Any names to transforms of a batch.
    """

    def __init__(self, transforms: Mapping[str, BatchTransform]) -> None:
        self.transforms = list(transforms.values())

    def __call__(self, batch: Batch, num_classes: int, rng: np.random.Generator) -> Batch:
        """The batch after the one that was drawn."""
        return self.transforms[int(rng.integers(len(self.transforms)))](batch, num_classes, rng)


def mixup(batch: Batch, share: float, num_classes: int) -> Batch:
    """Equation 1 of the paper, with the batch rolled by one as the second half of the pairs.

    Args:
        batch: `image` (B, C, *S), integers are rounded; `category` (B,) or (B, K).
        share: Weight of an image itself, 0..1.
        num_classes: K.

    Returns:
        A new batch whose `category` is (B, K) float32.

    Raises:
        ValueError: The images differ in size, or the batch has targets that do not mix.
    """
    _check(batch, "MixUp")
    image = batch["image"]
    mixed = _mixed(image.float(), share)
    out = batch.copy()
    out["image"] = mixed if image.is_floating_point() else mixed.round_().to(image.dtype)
    out["category"] = _mixed(_shares(batch["category"], num_classes), share)
    return out


def cutmix(batch: Batch, share: float, centre: Sequence[int], num_classes: int) -> Batch:
    """Equations 1 and 2 of the paper, in any dimension; the window is cut at the border.

    Args:
        batch: See `mixup`.
        share: Part of an image that is to stay its own, 0..1.
        centre: Of the window, a place an axis.
        num_classes: K.

    Returns:
        A new batch whose `category` is (B, K) float32, by the pixels that were exchanged.

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
    """(B, K) float32 of (B,) classes; shares stay."""
    return F.one_hot(category, num_classes).float() if category.ndim == 1 else category.float()


def _check(batch: Batch, who: str) -> None:
    odd = sorted({"boxes", "mask", "instance_masks", "identity", "extra"} & set(batch))
    if odd or "category" not in batch:
        found = ", ".join(odd) or "no category"
        raise ValueError(f"{who}: images of a category are mixed, the batch has {found}")
    sizes = batch["size"]
    if not torch.equal(sizes, sizes[:1].expand_as(sizes)) or (
        tuple(sizes[0].tolist()) != tuple(batch["image"].shape[2:])
    ):
        raise ValueError(
            f"{who}: images of one size are mixed, found {sizes.unique(dim=0).tolist()[:5]}; crop"
            " them in train_transform"
        )


def _positive(alpha: float, key: str) -> float:
    if not alpha > 0:
        raise ValueError(f"{key}: more than 0, found {alpha}")
    return float(alpha)
