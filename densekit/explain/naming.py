"""Names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def class_name(info: Mapping[str, Any], index: int) -> str:
    """Returns the name of a class, its number if it has none.

    Args:
        info: The data's description of a head's targets.
        index: Number of the class.
    """
    names = info.get("names") or ()
    return str(names[index]) if index < len(names) else str(index)


def side_name(info: Mapping[str, Any], value: int) -> str:
    """Returns the name of a mask value, 0 or 1, of a head with one logit.

    Args:
        info: The data's description of a head's targets; `names` may hold the positive class alone.
        value: The mask value.
    """
    names = list(info.get("names") or ("background", "foreground"))
    return str(names[-1] if value else names[0] if len(names) > 1 else "background")
