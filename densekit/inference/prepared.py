"""Refuses images for embeddings whose size shows that they were not cropped as in training.

A network answers anything: the embedding of a one-pixel image, or of a whole photograph where
training saw aligned faces, is meaningless, and its similarities to others are high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FACTOR = 2
"""Factor by which a side may lie beyond those of training, where these varied."""


def check_prepared(
    size: Sequence[int], rule: Mapping[str, Any], resize: Mapping[str, Any] | None, where: str
) -> None:
    """Refuses an image that was not prepared as the training images were.

    Args:
        size: Height and width.
        rule: `info["prepared"][HEAD]`: `min_size`, `max_size` and `aligned`.
        resize: `info["resize"]`; a model that resizes accepts larger images too.
        where: The file, for the message.

    Raises:
        ValueError: Names the file, the expected sizes and the actual one.
    """
    low, high = _sides(rule, "min_size"), _sides(rule, "max_size")
    found, expected = f"{size[0]} x {size[1]}", f"{low[0]} x {low[1]}"
    if rule.get("aligned"):
        if list(size) != low:
            raise ValueError(
                f"{where}: expected an aligned face of {expected}, got {found}; densekit.data."
                "align_face crops one from five landmarks"
            )
    elif low == high and not resize:
        if list(size) != low:
            raise ValueError(
                f"{where}: expected an image of {expected}, cropped like the training images, got "
                f"{found}"
            )
    elif _far(size, low, high, upper=not resize):
        raise ValueError(
            f"{where}: expected an image like the training images, {expected} to {high[0]} x "
            f"{high[1]} or at most {FACTOR} times beyond, got {found}"
        )


def _sides(rule: Mapping[str, Any], key: str) -> list[int]:
    found = rule.get(key)
    if not isinstance(found, list) or len(found) != 2 or not all(type(n) is int for n in found):
        raise ValueError(f"info.prepared: {key}: expected height and width, got {found!r}")
    return found


def _far(size: Sequence[int], low: Sequence[int], high: Sequence[int], *, upper: bool) -> bool:
    """Whether a side is far below the smallest or, with `upper`, far above the largest one."""
    small = any(side * FACTOR < least for side, least in zip(size, low, strict=True))
    large = any(side > FACTOR * most for side, most in zip(size, high, strict=True))
    return small or (upper and large)
