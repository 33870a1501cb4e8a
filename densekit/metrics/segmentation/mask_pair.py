"""Truth and prediction of one image side by side: checked, ignored pixels out of account.

Shape letters: K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX, Result, Truth

Mask = NDArray[np.bool_]

CHUNK = 1 << 22
"""Pixels counted at a time: `bincount` makes 8 bytes of each."""


@dataclass(frozen=True)
class MaskPair:
    """One image in its original frame.

    A pixel that the annotation ignores belongs to no class, in truth and prediction alike.

    Attributes:
        image_id: The data set's own id.
        truth: (*S) or multi-label (K, *S) uint8, 255 where nothing is counted.
        predicted: Likewise, 255 where `truth` is.
        spacing: Distance of neighbouring pixels along each axis; None if it is not known.
        num_classes: K; 1 is binary, its class has the value 1.
        multilabel: Whether the masks have an axis K.
    """

    image_id: int
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    spacing: tuple[float, ...] | None
    num_classes: int
    multilabel: bool

    @property
    def size(self) -> tuple[int, ...]:
        """The D sides of the image."""
        return self.truth.shape[1:] if self.multilabel else self.truth.shape

    @property
    def is_exclusive(self) -> bool:
        """Whether a pixel has exactly one of several classes."""
        return not self.multilabel and self.num_classes > 1

    def of(self, label: int) -> tuple[Mask, Mask]:
        """(*S) where the class is, in truth and in prediction.

        Args:
            label: 0..K-1.
        """
        if self.multilabel:
            return self.truth[label] == 1, self.predicted[label] == 1
        value = 1 if self.num_classes == 1 else label
        return self.truth == value, self.predicted == value


def mask_pair(result: Result, truth: Truth, num_classes: int, *, multilabel: bool) -> MaskPair:
    """Puts a result beside its annotation.

    Args:
        result: `mask` (*S), or (K, *S) if multi-label, integers.
        truth: `image_id` and `mask` of the same shape, `spacing` where it is known.
        num_classes: K.
        multilabel: Whether the K classes are independent or exclusive.

    Raises:
        ValueError: Naming the image: a mask is missing, not of integers, of a wrong shape, or has
            a value that is no class; or the spacing is not one positive number per axis.
    """
    where = f"image {truth['image_id']}"
    top = 2 if multilabel or num_classes == 1 else num_classes
    target = _integers(truth, f"{where}: annotation")
    guess = _integers(result, f"{where}: prediction")
    _check_shapes(target, guess, num_classes if multilabel else None, where)
    ignored = target == IGNORE_INDEX
    accepted = f"0..{top - 1}"
    _check_values(target, ignored, top, f"{where}: annotation", f"{accepted}, {IGNORE_INDEX} void")
    _check_values(guess, np.zeros(1, dtype=bool), top, f"{where}: prediction", accepted)
    guess = guess.astype(np.uint8, copy=False)
    if ignored.any():
        guess = np.where(ignored, np.uint8(IGNORE_INDEX), guess)
    dims = target.ndim - multilabel
    return MaskPair(
        image_id=truth["image_id"],
        truth=target.astype(np.uint8, copy=False),
        predicted=guess,
        spacing=_spacing(truth["spacing"], dims, where) if "spacing" in truth else None,
        num_classes=num_classes,
        multilabel=multilabel,
    )


def overlaps(pair: MaskPair) -> NDArray[np.float64]:
    """Pixels of each class.

    Returns:
        (K, 4): in truth and prediction, in the prediction, in the truth, counted at all.
    """
    if pair.is_exclusive:
        return of_joint(joint_counts(pair))
    masks = (pair.truth, pair.predicted)
    planes = zip(*masks, strict=True) if pair.multilabel else [masks]
    tables = [_joint(*plane)[:2, :2] for plane in planes]
    return np.concatenate([of_joint(table)[1:] for table in tables])


def joint_counts(pair: MaskPair) -> NDArray[np.int64]:
    """(K, K) pixels by true class (row) and predicted class (column), classes being exclusive."""
    return _joint(pair.truth, pair.predicted)[: pair.num_classes, : pair.num_classes]


def of_joint(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """`overlaps` of (K, K) `joint_counts`."""
    total = np.full(len(table), table.sum())
    columns = (table.diagonal(), table.sum(0), table.sum(1), total)
    return np.stack(columns, axis=1).astype(np.float64)


def _joint(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256, 256) number of pixels by value in truth and value in prediction."""
    truth, predicted = truth.reshape(-1), predicted.reshape(-1)
    counts = np.zeros(1 << 16, dtype=np.int64)
    for start in range(0, truth.size, CHUNK):
        part = slice(start, start + CHUNK)
        code = (truth[part].astype(np.uint16) << 8) | predicted[part]
        counts += np.bincount(code, minlength=1 << 16)
    return counts.reshape(256, 256)


def _integers(owner: Any, what: str) -> NDArray[Any]:
    if "mask" not in owner:
        raise ValueError(f"{what}: expected a mask, got {', '.join(sorted(owner)) or 'nothing'}")
    mask = np.asarray(owner["mask"])
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8)
    if mask.dtype.kind not in "iu":
        raise ValueError(f"{what}: expected a mask of integers (classes), got {mask.dtype}")
    return mask


def _check_shapes(
    target: NDArray[Any], guess: NDArray[Any], planes: int | None, where: str
) -> None:
    if guess.shape != target.shape:
        raise ValueError(
            f"{where}: expected a predicted mask of the annotated shape {target.shape}, in the"
            f" image's original frame, got {guess.shape}"
        )
    if planes is not None and (target.ndim < 2 or len(target) != planes):
        raise ValueError(
            f"{where}: expected multi-label masks ({planes}, *size), one plane per class, got"
            f" {target.shape}"
        )


def _check_values(mask: NDArray[Any], also: Mask, top: int, what: str, accepted: str) -> None:
    """Refuses values that are not 0..top - 1, but where `also` is set."""
    wrong = ((mask < 0) | (mask >= top)) & ~also
    if wrong.any():
        found = np.unique(mask[wrong])
        shown = ", ".join(map(str, found[:10].tolist())) + (", ..." if len(found) > 10 else "")
        raise ValueError(f"{what}: mask: expected {accepted}, got {shown}")


def _spacing(spacing: tuple[float, ...], dims: int, where: str) -> tuple[float, ...]:
    values = tuple(float(side) for side in spacing)
    if len(values) != dims or not all(0 < side < math.inf for side in values):
        raise ValueError(f"{where}: spacing: expected {dims} positive numbers, got {values}")
    return values
