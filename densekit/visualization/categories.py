"""Draws images with their class names as titles.

Shape letters: S the sides of an image along its axes, C its channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.visualization.images import Picture
from densekit.visualization.panels import side_by_side
from densekit.visualization.planes import as_picture

MOST = 3
"""Number of classes in a title at most; the most probable ones are shown."""


def draw_category(image: NDArray[Any], title: str) -> Picture:
    """Draws an image of any dimension under a title.

    Args:
        image: (*S, C).
        title: Its class or classes; see `describe_category` and `describe_scores`.
    """
    return side_by_side([as_picture(image)], [title])


def describe_category(category: NDArray[Any], names: Sequence[str]) -> str:
    """Formats the class, the labels or the class shares of an image as text.

    Args:
        category: () class, or (K,) labels of 0 and 1 or shares.
        names: K class names.
    """
    if category.ndim == 0:
        return label_names([int(category)], names)[0]
    order = np.argsort(-category, kind="stable")
    present = [int(label) for label in order if category[label] > 0][:MOST]
    if (category == category.round()).all():
        return ", ".join(label_names(present, names)) or "nothing"
    return describe_scores(present, category[present], names)


def describe_scores(labels: Iterable[int], scores: Iterable[float], names: Sequence[str]) -> str:
    """Formats classes with their scores as text: `cat 0.91, dog 0.62`."""
    pairs = zip(label_names(labels, names), scores, strict=True)
    return ", ".join(f"{name} {score:.2f}" for name, score in pairs) or "nothing"


def label_names(labels: Iterable[int], names: Sequence[str]) -> list[str]:
    """Names of classes; a class without a name is shown by its number."""
    return [names[label] if label < len(names) else str(label) for label in labels]
