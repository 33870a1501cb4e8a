"""Tells which classes an image shows, for sampling and for checks of the annotations.

S the sizes of an image, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.types import IGNORE_INDEX, Sample


def labels_in_mask(mask: NDArray[Any], described: Mapping[str, Any]) -> NDArray[np.int64]:
    """(n,) distinct labels of the pixels of a mask, without ignored pixels and the background.

    Args:
        mask: (*S) or multi-label (K, *S).
        described: The description of the data set.
    """
    classes = int(described["num_classes"])
    if described.get("multilabel"):
        return np.flatnonzero((mask == 1).reshape(classes, -1).any(axis=1))
    values: NDArray[np.int64] = np.flatnonzero(np.bincount(mask.ravel(), minlength=1))
    without_zero = classes == 1 or bool(described.get("background"))
    seen: NDArray[np.int64] = values[(values != IGNORE_INDEX) & ((values > 0) | (not without_zero))]
    return seen - 1 if classes == 1 else seen  # of one class, masks store 1


def labels_in_sample(sample: Sample, described: Mapping[str, Any]) -> NDArray[np.int64]:
    """(n,) distinct labels of a sample: of its mask, its boxes or its category.

    Args:
        sample: Any sample.
        described: The description of its data set.

    Raises:
        ValueError: If the sample has none of these targets.
    """
    # Boxes and masks may come together; only masks are described as these words do.
    if "mask" in sample and "multilabel" in described:
        return labels_in_mask(sample["mask"], described)
    if "labels" in sample:
        return np.unique(sample["labels"])
    if "category" in sample:
        category = np.asarray(sample["category"])
        return np.flatnonzero(category) if category.ndim else category.reshape(1)
    raise ValueError(
        f"{sample['meta']['path']}: expected boxes, a mask or a category to tell the classes of an"
        f" image, got {sorted(sample)}"
    )
