"""Images under the name of their class.

Shape letters: S the sides of an image along its axes, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from densekit.types import Result
from densekit.visualization.images import Picture
from densekit.visualization.panels import side_by_side
from densekit.visualization.series import as_picture

MOST = 3
"""Names above a picture: of more, the most probable ones."""


def draw_category(image: NDArray[Any], category: Tensor, names: Sequence[str]) -> Picture:
    """An image as the network gets it, under its class, its labels or its shares of classes.

    Args:
        image: (*S, C).
        category: () class, or (K,) labels or shares.
        names: K class names.
    """
    title = _said(category.cpu().numpy(), names)
    return side_by_side([as_picture(image)], [title])


def draw_category_result(
    image: NDArray[Any], head: str, result: Result, truth: NDArray[Any], names: Sequence[str]
) -> Picture:
    """An image under what a head says of it and what it is.

    Args:
        image: (*S, C).
        head: Begins the title.
        result: `labels` and `scores`.
        truth: () class, or (K,) labels.
        names: K class names.
    """
    pairs = zip(result["labels"][:MOST], result["scores"][:MOST], strict=True)
    found = ", ".join(f"{_name(label, names)} {score:.2f}" for label, score in pairs) or "nothing"
    title = f"{head}: {found} / truth: {_said(truth, names)}"
    return side_by_side([as_picture(image)], [title])


def _said(category: NDArray[Any], names: Sequence[str]) -> str:
    if category.ndim == 0:
        return _name(int(category), names)
    order = np.argsort(-category, kind="stable")
    there = [label for label in order if category[label] > 0][:MOST]
    whole = bool((category == category.round()).all())
    said = [_name(n, names) if whole else f"{_name(n, names)} {category[n]:.2f}" for n in there]
    return ", ".join(said) or "nothing"


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)
