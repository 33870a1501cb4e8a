"""Pictures of identities are refused where they cannot be like those that training saw.

A network answers anything: of a picture of one pixel, or of a whole photograph where it learned on
aligned faces, its embedding says nothing, and similarities are high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FACTOR = 2
"""How far a side may lie beyond those of training, where these differed."""


def check_prepared(
    size: Sequence[int], rule: Mapping[str, Any], resize: Mapping[str, Any] | None, where: str
) -> None:
    """Refuses a picture that is not prepared as those of training were.

    Args:
        size: Height and width.
        rule: `info["prepared"][HEAD]`: `min_size`, `max_size` and `aligned`.
        resize: `info["resize"]`; where the model resizes, larger pictures are brought to its size.
        where: The file, for the message.

    Raises:
        ValueError: Naming the file, the sizes that are expected and the one found.
    """
    low, high = _sides(rule, "min_size"), _sides(rule, "max_size")
    found, spoken = f"{size[0]} x {size[1]}", f"{low[0]} x {low[1]}"
    if rule.get("aligned"):
        if list(size) != low:
            raise ValueError(
                f"{where}: expected an aligned face of {spoken}, got {found}; densekit.data."
                "align_face makes one of five landmarks"
            )
    elif low == high and not resize:
        if list(size) != low:
            raise ValueError(
                f"{where}: expected a picture of {spoken}, cut as those that the model was trained "
                f"on, got {found}"
            )
    elif _far(size, low, high, upper=not resize):
        raise ValueError(
            f"{where}: expected a picture like those that the model was trained on, {spoken} to "
            f"{high[0]} x {high[1]} and not {FACTOR} times beyond, got {found}"
        )


def _sides(rule: Mapping[str, Any], key: str) -> list[int]:
    found = rule.get(key)
    if not isinstance(found, list) or len(found) != 2 or not all(type(n) is int for n in found):
        raise ValueError(f"info.prepared: {key}: expected height and width, got {found!r}")
    return found


def _far(size: Sequence[int], low: Sequence[int], high: Sequence[int], *, upper: bool) -> bool:
    """Whether a side is much smaller than the smallest, or larger than the largest one."""
    small = any(side * FACTOR < least for side, least in zip(size, low, strict=True))
    large = any(side > FACTOR * most for side, most in zip(size, high, strict=True))
    return small or (upper and large)
