"""Truth and prediction of a whole image side by side, checked.

Shape letters: K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import Result, Truth


def category_pair(
    result: Result, truth: Truth, num_classes: int | None = None
) -> tuple[NDArray[np.float64], int]:
    """The probabilities (K,) and the class of an image whose classes exclude each other.

    Args:
        result: `probabilities` (K,).
        truth: `image_id` and `category`, ().
        num_classes: K; None takes what the probabilities have.

    Raises:
        ValueError: Naming the image: something is missing, of another shape, or no class.
    """
    where = f"image {truth['image_id']}"
    probabilities = _probabilities(result, where, num_classes)
    category = _category(truth, where)
    if category.shape != () or category != int(category) or not 0 <= category < len(probabilities):
        raise ValueError(
            f"{where}: annotation: expected a category of 0 to {len(probabilities) - 1}, got"
            f" {category.tolist()}"
        )
    return probabilities, int(category)


def label_pair(
    result: Result, truth: Truth, num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probabilities (K,) and the labels (K,) of 0 and 1 of a multi-label image.

    Args:
        result: `probabilities` (K,).
        truth: `image_id` and `category`, (K,).
        num_classes: K.

    Raises:
        ValueError: Naming the image: something is missing, of another shape, or neither 0 nor 1.
    """
    where = f"image {truth['image_id']}"
    probabilities = _probabilities(result, where, num_classes)
    labels = _category(truth, where)
    if labels.shape != probabilities.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"{where}: annotation: expected 0 or 1 for each of {num_classes} labels, got"
            f" {labels.tolist()}"
        )
    return probabilities, labels.astype(np.float64)


def _probabilities(result: Result, where: str, num_classes: int | None) -> NDArray[np.float64]:
    if "probabilities" not in result:
        there = ", ".join(sorted(result)) or "nothing"
        raise ValueError(f"{where}: prediction: expected probabilities, got {there}")
    found = np.asarray(result["probabilities"], dtype=np.float64)
    if found.ndim != 1 or num_classes not in (None, len(found)):
        raise ValueError(
            f"{where}: prediction: expected {num_classes} probabilities, got shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{where}: prediction: expected finite probabilities, got NaN or infinity")
    return found


def _category(truth: Truth, where: str) -> NDArray[Any]:
    if "category" not in truth:
        there = ", ".join(sorted(truth))
        raise ValueError(f"{where}: annotation: expected a category, got {there}")
    return np.asarray(truth["category"])
