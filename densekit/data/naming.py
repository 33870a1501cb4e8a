"""Names of classes: the nearest one to a misspelt one, tables of labels, a digest."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence


def nearest(name: str, accepted: Iterable[str]) -> str:
    """A hint for an error message: the accepted names, the most similar one first.

    Args:
        name: What was found.
        accepted: What would have been right; more than 20 are cut short.
    """
    options = list(accepted)
    folded = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.4)
    guess = f"did you mean {folded[close[0]]!r}? " if close else ""
    shown = ", ".join(options[:20]) + (f", ... ({len(options)} in all)" if options[20:] else "")
    return f"{guess}accepted: {shown or 'none'}"


def digest(names: Iterable[str]) -> str:
    """16 characters that differ where names or their order do, for names by the million."""
    found = hashlib.sha256()
    for name in names:
        found.update(f"{len(name)}:{name}".encode())
    return found.hexdigest()[:16]


def check_names(names: Sequence[str], key: str) -> list[str]:
    """The class names as a list.

    Args:
        names: Class names in the order of their labels.
        key: What to call them in an error message, e.g. `VocDetection.names`.

    Raises:
        TypeError: If it is one string, or not all are strings (YAML reads `no` as a boolean).
        ValueError: If it is empty or a name stands twice.
    """
    if isinstance(names, str):
        raise TypeError(f"{key}: a list of class names is needed, found the string {names!r}")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"{key}: class names are strings (quote them in YAML), found {wrong[0]!r}")
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated or not names:
        found = f"{repeated[0]!r} stands twice" if repeated else "no class at all"
        raise ValueError(f"{key}: every class must be named once, found {found}")
    return list(names)
