"""Finding out the classes of masks: declared, in a file beside them, or scanned."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.naming import tidy_names
from densekit.data.reading.bit_depths import UnreadableError
from densekit.data.reading.progress import tracked
from densekit.data.segmentation.class_table import (
    ClassTable,
    check_values,
    find_table,
    parse_colour,
)
from densekit.data.segmentation.codes import LOSSY_HINT, UNKNOWN, MaskCode, is_lossy
from densekit.data.segmentation.stored_values import (
    Palette,
    has_palette,
    is_coloured,
    pack,
    palette_of,
    stored_values,
)
from densekit.types import IGNORE_INDEX

_log = logging.getLogger("densekit.data")

MaskPaths = Sequence[Path | None]
"""The mask file of one image, or one a class."""

ENOUGH = 200
"""Masks that are looked at to tell how yes and no are stored."""


def declared_table(
    names: Sequence[str] | Mapping[str, int] | None, colours: Mapping[str, Any] | None, key: str
) -> ClassTable | None:
    """The classes as the configuration gives them, or None.

    Args:
        names: Class names in the order of their labels, or names to stored values.
        colours: Names to colours.
        key: The data set's class, for messages.

    Raises:
        TypeError: For names that are no strings.
        ValueError: For a name or a value that appears twice, a value that is not a whole number, or
            both arguments at once.
    """
    if colours is not None:
        if names is not None:
            raise ValueError(f"{key}: colours name the classes, names must not be given too")
        parsed = [parse_colour(value, f"{key}.colours.{name}") for name, value in colours.items()]
        table = ClassTable(tidy_names(list(colours), f"{key}.colours"), colours=parsed)
    elif isinstance(names, Mapping):
        table = ClassTable(tidy_names(list(names), f"{key}.names"), list(names.values()))
    elif names is not None:
        table = ClassTable(tidy_names(names, f"{key}.names"))
    else:
        return None
    check_values(table.names, table.colours or table.values or (), key)
    return table


def find_code(
    masks: Sequence[MaskPaths],
    declared: ClassTable | None,
    ignore: Sequence[Any] | None,
    folders: Sequence[Path],
    key: str,
) -> MaskCode:
    """Which stored value is which class.

    Args:
        masks: The files of every image.
        declared: The classes by the configuration, if it names them.
        ignore: Stored values, or colours, that are void; None leaves it to the class file.
        folders: Where to look for a class file.
        key: The data set's class, for messages.

    Raises:
        ValueError: If values and classes do not fit.
    """
    table = declared or find_table(folders)
    files = [path for paths in masks for path in paths if path is not None]
    if not files:
        raise ValueError(f"{key}: none of {len(masks)} images has a mask")
    first = files[0]
    void = _void(ignore, table, key)
    if table and table.colours and (declared or is_coloured(first)):
        return _of_colours(table, void, explicit=declared is not None, key=key)
    code = _of_values(masks, table, void, explicit=declared is not None, key=key)
    return replace(code, palette=_palette(files))


def _of_values(
    masks: Sequence[MaskPaths],
    table: ClassTable | None,
    void: tuple[int, ...],
    *,
    explicit: bool,
    key: str,
) -> MaskCode:
    files = [path for paths in masks for path in paths if path is not None]
    if len(masks[0]) > 1 or _first_readable(files).ndim == 3:
        return _multilabel(masks, table, void, key)
    if table is None:
        return _scanned(masks, void)
    if len(table.names) == 1:
        wanted = table.values[0] if table.values else None
        yes, no = _yes_and_no(_look(masks, ENOUGH), wanted, void, table.names)
        return MaskCode(table.names, [yes], void, rest=no)
    values = table.values
    if values is None and len(table.names) == 2:
        values = _black_and_white(masks, void)
    return _checked(table.names, values, void, explicit=explicit, key=key)


def _void(ignore: Sequence[Any] | None, table: ClassTable | None, key: str) -> tuple[int, ...]:
    """Stored values to ignore, colours packed."""
    if ignore is None:
        return table.ignore if table else ()
    if isinstance(ignore, str) or not isinstance(ignore, Sequence):
        raise TypeError(f"{key}.ignore: expected a list of stored values, got {ignore!r}")
    return tuple(
        value if isinstance(value, int) else _packed(parse_colour(value, f"{key}.ignore"))
        for value in ignore
    )


def _packed(colour: Sequence[int]) -> int:
    return int(pack(np.asarray(colour)))


def _of_colours(table: ClassTable, void: tuple[int, ...], *, explicit: bool, key: str) -> MaskCode:
    check_values(table.names, table.colours or (), key)
    values = [_packed(colour) for colour in table.colours or ()]
    code = _checked(table.names, values, void, explicit=explicit, key=key)
    if len(code.names) == 1:
        raise ValueError(f"{key}.colours: a colour is needed for the background too")
    return MaskCode(code.names, code.values, void, colours=True)


def _checked(
    names: list[str], values: list[int] | None, void: tuple[int, ...], *, explicit: bool, key: str
) -> MaskCode:
    """The code of several classes; a class file's classes that are ignored are left out."""
    stored = list(range(len(names))) if values is None else values
    if len(names) >= UNKNOWN:
        raise ValueError(f"{key}: at most {UNKNOWN - 1} classes are accepted, found {len(names)}")
    ignored = [name for name, value in zip(names, stored, strict=True) if value in void]
    if ignored and explicit:
        raise ValueError(f"{key}: {ignored[0]!r} is named as a class and ignored too")
    kept = [(n, v) for n, v in zip(names, stored, strict=True) if v not in void]
    return MaskCode([name for name, _ in kept], [value for _, value in kept], void)


def _first_readable(files: Sequence[Path]) -> NDArray[Any]:
    for path in files[:-1]:
        with suppress(UnreadableError):
            return stored_values(path)
    return stored_values(files[-1])


def _palette(files: Sequence[Path]) -> Palette:
    """The colours of the masks with a palette, of a few spread over all."""
    found: dict[int, tuple[int, Path]] = {}
    step = max(1, len(files) // ENOUGH)
    for path in tracked(
        [path for path in files[::step] if has_palette(path)], "comparing palettes"
    ):
        with suppress(UnreadableError):
            found = {**palette_of(path, found), **found}
    return found


_Counts = Mapping[Path, Mapping[int, int]]
"""Pixels of each stored value, by file."""


def _look(masks: Sequence[MaskPaths], limit: int | None = None) -> _Counts:
    """Counts the values of all files or of a few spread over them."""
    files = [path for paths in masks for path in paths if path is not None]
    step = max(1, len(files) // limit) if limit else 1
    found = {}
    for path in tracked(files[::step], "looking at masks"):
        with suppress(UnreadableError):  # all of them are named together before the first step
            found[path] = count_values(stored_values(path))
    # Without a yes in the few, all are looked at: what it is must not be guessed.
    return _look(masks) if step > 1 and len(_total(found)) < 2 else found


def _total(found: _Counts) -> Counter[int]:
    total: Counter[int] = Counter()
    for counts in found.values():
        total.update(counts)
    return total


def count_values(values: NDArray[Any]) -> dict[int, int]:
    """Value to number of pixels."""
    if values.dtype == np.uint8:  # 10 times faster than sorting
        pixels = np.bincount(values.ravel())
        return {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
    found, pixels = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), pixels.tolist(), strict=True))


def _yes_and_no(
    looked: _Counts, wanted: int | None, void: tuple[int, ...], names: Sequence[str]
) -> tuple[int, int]:
    """The stored values of yes and no where a class is a question of its own.

    0 and 255 mean no and yes; beside a third value, 255 is void.
    """
    counts = _total(looked)
    found = {value for value in counts if value not in void}
    if len(found) > 2 and wanted != IGNORE_INDEX:
        _check_void(looked, void)
        found -= {IGNORE_INDEX}
    others = sorted(found - {0 if wanted is None else wanted})
    if len(others) > 1:
        listing = ", ".join(f"{v} ({counts[v]} pixels)" for v in sorted(counts)[:20])
        lossy = next((f"; {path}: {LOSSY_HINT}" for path in looked if is_lossy(path)), "")
        raise ValueError(
            f"{', '.join(names)}: yes and no are two values, the masks hold {listing}; name every"
            f" class in `names` (or `colours`, for RGB masks), list void values in `ignore`{lossy}"
        )
    if wanted is None:
        return (others[0] if others else 1), 0
    return wanted, (others[0] if others else int(wanted == 0))


def _check_void(looked: _Counts, void: tuple[int, ...]) -> None:
    """Refuses 255 that means yes in one file where 1 does in another: it is void in neither."""
    inside = {path: set(counts) - {0, *void} for path, counts in looked.items()}
    white = [path for path, values in inside.items() if IGNORE_INDEX in values]
    if white and all(inside[path] == {IGNORE_INDEX} for path in white):
        other = next(path for path, values in inside.items() if values - {IGNORE_INDEX})
        raise ValueError(
            f"{white[0]}: expected the values of {other}, {_brief(looked[other])}, got"
            f" {_brief(looked[white[0]])}; store yes as one value, or give `ignore: [255]` if 255"
            " is void"
        )


def _brief(counts: Mapping[int, int]) -> str:
    return " and ".join(str(value) for value in sorted(counts))


def _black_and_white(masks: Sequence[MaskPaths], void: tuple[int, ...]) -> list[int] | None:
    """0 and 255 where two classes are stored so, else None."""
    looked = _look(masks, ENOUGH)
    found = set(_total(looked)) - set(void)
    if found == {0, 1, IGNORE_INDEX}:
        _check_void(looked, void)
    return [0, IGNORE_INDEX] if found == {0, IGNORE_INDEX} else None


def _multilabel(
    masks: Sequence[MaskPaths], table: ClassTable | None, void: tuple[int, ...], key: str
) -> MaskCode:
    if table is None:
        first = next(path for path in masks[0] if path is not None)
        planes = stored_values(first).shape[0] if len(masks[0]) == 1 else len(masks[0])
        table = ClassTable([f"class_{plane}" for plane in range(planes)])
        _say_names(first.parent, table.names, "one a plane")
    if len(masks[0]) not in (1, len(table.names)):
        raise ValueError(
            f"{key}: {len(table.names)} names for {len(masks[0])} mask files an image:"
            f" {', '.join(table.names)}"
        )
    yes, no = _yes_and_no(_look(masks, ENOUGH), None, void, table.names)
    return MaskCode(table.names, [yes] * len(table.names), void, rest=no, multilabel=True)


def _scanned(masks: Sequence[MaskPaths], void: tuple[int, ...]) -> MaskCode:
    """One class a stored value; 0 and another value are the background and one class."""
    looked = _look(masks)
    counts = _total(looked)
    folder = next(path for path in masks[0] if path is not None).parent
    found = sorted(value for value in counts if value not in void)
    if len(found) > 2:
        if len(found) == 3 and found[0] == 0 and IGNORE_INDEX in found:
            _check_void(looked, void)
        found = [value for value in found if value != IGNORE_INDEX]
    if not found or len(found) > UNKNOWN - 1 or found[0] < 0:
        raise ValueError(
            f"{folder}: {len(found)} different values, {found[:5]}...: are these masks? Name the"
            " classes in `names`"
        )
    if found[0] == 0 and len(found) <= 2:
        yes, no = _yes_and_no(looked, None, void, ["foreground"])
        _say_names(folder, ["foreground"], f"yes is {yes}, no is {no}")
        return MaskCode(["foreground"], [yes], void, rest=no)
    names = [f"class_{value}" for value in found]
    _say_names(folder, names, f"stored values {found}")
    return MaskCode(names, found, void)


def _say_names(folder: Path, names: Sequence[str], how: str) -> None:
    _log.warning(
        "%s: nobody names the classes (`names`, or a file classes.txt); taken as %s: %s",
        folder,
        ", ".join(names),
        how,
    )
