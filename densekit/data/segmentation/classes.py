"""Determines the classes of masks: declared, read from a file beside them, or scanned."""

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
from densekit.data.reading.stored_values import (
    Palette,
    has_palette,
    is_coloured,
    pack,
    palette_of,
    stored_values,
)
from densekit.data.segmentation.class_table import (
    ClassTable,
    check_values,
    find_table,
    parse_colour,
)
from densekit.data.segmentation.codes import LOSSY_HINT, UNKNOWN, MaskCode, is_lossy
from densekit.types import IGNORE_INDEX

_log = logging.getLogger("densekit.data")

MaskPaths = Sequence[Path | None]
"""The mask file of one image, or one file per class."""

SAMPLED_MASKS = 200
"""Masks that are read to find the stored values of foreground and background."""

STRAY = 0.1
"""Share of the pixels of 255 below which those of another value look like damage."""


def declared_table(
    names: Sequence[str] | Mapping[str, int] | None, colours: Mapping[str, Any] | None, key: str
) -> ClassTable | None:
    """The classes given in the configuration, or None.

    Args:
        names: Class names in the order of their labels, or names to stored values.
        colours: Names to colours.
        key: The data set's class, for messages.

    Raises:
        TypeError: For names that are not strings.
        ValueError: For a name or a value that appears twice, a value that is not an integer, or
            both arguments at once.
    """
    if colours is not None:
        if names is not None:
            raise ValueError(
                f"{key}: expected `names` or `colours`, got both; `colours` names the classes too"
            )
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
    """Determines which stored value is which class.

    Args:
        masks: The mask files of every image.
        declared: The classes given in the configuration, if any.
        ignore: Stored values, or colours, that are void; None takes those of the class file.
        folders: Folders to search for a class file.
        key: The data set's class, for messages.

    Raises:
        ValueError: If the stored values do not fit the classes.
    """
    table = declared or find_table(folders)
    files = [path for paths in masks for path in paths if path is not None]
    if not files:
        raise ValueError(f"{key}: expected masks, got none for {len(masks)} images")
    first = files[0]
    if first.is_file() and is_lossy(first):
        _log.warning("%s: expected a mask without loss, got JPEG or WebP; %s", first, LOSSY_HINT)
    void = _void_values(ignore, table, key)
    if table and table.colours and (declared or is_coloured(first)):
        return _colour_code(table, void, explicit=declared is not None, key=key)
    code = _value_code(masks, table, void, explicit=declared is not None, key=key)
    return replace(code, palette=_palette(files))


def _value_code(
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
        declared = table.values[0] if table.values else None
        counts = _count_files(masks, SAMPLED_MASKS)
        foreground, background = _binary_values(counts, declared, void, table.names)
        return MaskCode(table.names, [foreground], void, rest=background)
    values = table.values
    if values is None and len(table.names) == 2:
        values = _black_and_white(masks, void)
    return _multiclass(table.names, values, void, explicit=explicit, key=key)


def _void_values(
    ignore: Sequence[Any] | None, table: ClassTable | None, key: str
) -> tuple[int, ...]:
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


def _colour_code(table: ClassTable, void: tuple[int, ...], *, explicit: bool, key: str) -> MaskCode:
    check_values(table.names, table.colours or (), key)
    values = [_packed(colour) for colour in table.colours or ()]
    code = _multiclass(table.names, values, void, explicit=explicit, key=key)
    if len(code.names) == 1:
        raise ValueError(
            f"{key}.colours: expected a colour for the background too, got only {code.names[0]!r}"
        )
    return MaskCode(code.names, code.values, void, colours=True)


def _multiclass(
    names: list[str], values: list[int] | None, void: tuple[int, ...], *, explicit: bool, key: str
) -> MaskCode:
    """The code of several classes, without those of a class file that are ignored."""
    stored = list(range(len(names))) if values is None else values
    if len(names) >= UNKNOWN:
        raise ValueError(f"{key}: expected at most {UNKNOWN - 1} classes, got {len(names)}")
    ignored = [name for name, value in zip(names, stored, strict=True) if value in void]
    if ignored and explicit:
        raise ValueError(f"{key}.ignore: expected no value of a class, got that of {ignored[0]!r}")
    kept = [(n, v) for n, v in zip(names, stored, strict=True) if v not in void]
    return MaskCode([name for name, _ in kept], [value for _, value in kept], void)


def _first_readable(files: Sequence[Path]) -> NDArray[Any]:
    for path in files[:-1]:
        with suppress(UnreadableError):
            return stored_values(path)
    return stored_values(files[-1])


def _palette(files: Sequence[Path]) -> Palette:
    """The palette that a sample of the masks, spread evenly, has in common."""
    found: dict[int, tuple[int, Path]] = {}
    step = max(1, len(files) // SAMPLED_MASKS)
    for path in tracked(
        [path for path in files[::step] if has_palette(path)], "comparing palettes"
    ):
        with suppress(UnreadableError):
            found = {**palette_of(path, found), **found}
    return found


_Counts = Mapping[Path, Mapping[int, int]]
"""Number of pixels of each stored value, by file."""


def _count_files(masks: Sequence[MaskPaths], limit: int | None = None) -> _Counts:
    """Counts the stored values of all files, or of about `limit` of them spread evenly."""
    files = [path for paths in masks for path in paths if path is not None]
    step = max(1, len(files) // limit) if limit else 1
    found = {}
    for path in tracked(files[::step], "reading mask values"):
        # Unreadable files are reported together before the first training step.
        with suppress(UnreadableError):
            found[path] = count_values(stored_values(path))
    # If the sample has no foreground, all files are read: its value must not be guessed.
    return _count_files(masks) if step > 1 and len(_total(found)) < 2 else found


def _total(found: _Counts) -> Counter[int]:
    total: Counter[int] = Counter()
    for counts in found.values():
        total.update(counts)
    return total


def count_values(values: NDArray[Any]) -> dict[int, int]:
    """Stored value to number of pixels."""
    if values.dtype == np.uint8:  # 10 times faster than sorting
        pixels = np.bincount(values.ravel())
        return {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
    found, pixels = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), pixels.tolist(), strict=True))


def _binary_values(
    by_file: _Counts, declared: int | None, void: tuple[int, ...], names: Sequence[str]
) -> tuple[int, int]:
    """The stored values of foreground and background in binary or multi-label masks.

    0 and 255 are background and foreground; beside a third value, 255 is void.
    """
    counts = _total(by_file)
    found = {value for value in counts if value not in void}
    if len(found) > 2 and declared != IGNORE_INDEX:
        _check_void(by_file, void)
        found -= {IGNORE_INDEX}
    others = sorted(found - {0 if declared is None else declared})
    if len(others) > 1:
        listing = ", ".join(f"{v} ({counts[v]} pixels)" for v in sorted(counts)[:20])
        lossy = next((f"; {path}: {LOSSY_HINT}" for path in by_file if is_lossy(path)), "")
        raise ValueError(
            f"{next(iter(by_file)).parent}: expected two values, the background and"
            f" {', '.join(names)}, got {listing};"
            " name every class in `names` (or `colours`, for RGB masks), list void values in"
            f" `ignore`{lossy}"
        )
    if declared is None:
        return (others[0] if others else 1), 0
    return declared, (others[0] if others else int(declared == 0))


def _check_void(by_file: _Counts, void: tuple[int, ...]) -> None:
    """Raises if 255, beside another value, may be the foreground and not void.

    So it is where files hold nothing else, and where the other value is a few stray pixels.
    """
    _check_stray(by_file, void)
    inside = {path: set(counts) - {0, *void} for path, counts in by_file.items()}
    white = [path for path, values in inside.items() if IGNORE_INDEX in values]
    if white and all(inside[path] == {IGNORE_INDEX} for path in white):
        other = next(path for path, values in inside.items() if values - {IGNORE_INDEX})
        raise ValueError(
            f"{white[0]}: expected the values of {other}, {_brief(by_file[other])}, got"
            f" {_brief(by_file[white[0]])}; store the foreground as one value, or give"
            " `ignore: [255]` if 255 is void"
        )


def _check_stray(by_file: _Counts, void: tuple[int, ...]) -> None:
    counts = _total(by_file)
    others = {value for value in counts if value not in (0, IGNORE_INDEX, *void)}
    pixels = sum(counts[value] for value in others)
    if pixels < STRAY * counts[IGNORE_INDEX]:
        path = next(path for path, found in by_file.items() if others & found.keys())
        raise ValueError(
            f"{path}: expected 0 and 255, as nearly everywhere, got {_brief(by_file[path])};"
            f" mend the {pixels} stray pixels, or give `ignore: [255]` if 255 is void"
        )


def _brief(counts: Mapping[int, int]) -> str:
    return " and ".join(str(value) for value in sorted(counts))


def _black_and_white(masks: Sequence[MaskPaths], void: tuple[int, ...]) -> list[int] | None:
    """[0, 255] if the masks of two classes hold these values, else None."""
    by_file = _count_files(masks, SAMPLED_MASKS)
    found = set(_total(by_file)) - set(void)
    if found == {0, 1, IGNORE_INDEX}:
        _check_void(by_file, void)
    return [0, IGNORE_INDEX] if found == {0, IGNORE_INDEX} else None


def _multilabel(
    masks: Sequence[MaskPaths], table: ClassTable | None, void: tuple[int, ...], key: str
) -> MaskCode:
    if table is None:
        first = next(path for path in masks[0] if path is not None)
        planes = stored_values(first).shape[0] if len(masks[0]) == 1 else len(masks[0])
        table = ClassTable([f"class_{plane}" for plane in range(planes)])
        _warn_names(first.parent, table.names, "one per plane")
    if len(masks[0]) not in (1, len(table.names)):
        raise ValueError(
            f"{key}: expected {len(masks[0])} names, one per mask file of an image, got"
            f" {len(table.names)}: {', '.join(table.names)}"
        )
    foreground, background = _binary_values(
        _count_files(masks, SAMPLED_MASKS), None, void, table.names
    )
    values = [foreground] * len(table.names)
    return MaskCode(table.names, values, void, rest=background, multilabel=True)


def _scanned(masks: Sequence[MaskPaths], void: tuple[int, ...]) -> MaskCode:
    """One class per stored value; 0 and one other value are background and foreground."""
    by_file = _count_files(masks)
    counts = _total(by_file)
    folder = next(path for path in masks[0] if path is not None).parent
    found = sorted(value for value in counts if value not in void)
    if len(found) > 2:
        if len(found) == 3 and found[0] == 0 and IGNORE_INDEX in found:
            _check_void(by_file, void)
        found = [value for value in found if value != IGNORE_INDEX]
    if not found or len(found) > UNKNOWN - 1 or found[0] < 0:
        raise ValueError(
            f"{folder}: expected masks of 1 to {UNKNOWN - 1} classes, values from 0 on, got"
            f" {len(found)} different values, {found[:5]}...; name the classes in `names`"
        )
    if found[0] == 0 and len(found) <= 2:
        foreground, background = _binary_values(by_file, None, void, ["foreground"])
        how = f"foreground is {foreground}, background is {background}"
        _warn_names(folder, ["foreground"], how)
        return MaskCode(["foreground"], [foreground], void, rest=background)
    names = [f"class_{value}" for value in found]
    _warn_names(folder, names, f"stored values {found}")
    return MaskCode(names, found, void)


def _warn_names(folder: Path, names: Sequence[str], how: str) -> None:
    _log.warning(
        "%s: no class names given (`names`, or a file classes.txt); using %s: %s",
        folder,
        ", ".join(names),
        how,
    )
