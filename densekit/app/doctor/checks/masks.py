"""Masks of images: missing, of another size, with values that are no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from densekit.app.doctor.checks.outliers import FEWEST, minority
from densekit.app.doctor.facts import Example, Mask, Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example, of_part, recorded
from densekit.types import IGNORE_INDEX

GREYS = 20
"""Values in a mask of few classes from which it was smoothed or stored lossily."""
INVERTED = 0.5
"""Share of foreground from which a mask may be inverted, if the others are far below."""

mask_without_image = recorded(
    "mask-without-image", Severity.WARNING, "a mask that belongs to no image"
)

Row = tuple[Part, Example, Path, Mask]


def _rows(study: Study) -> Iterator[Row]:
    """Every mask of an image with its file."""
    for part, example in study.each():
        files = [file for file in example.mask_files if file is not None]
        named = files if len(files) == len(example.masks) else [example.file] * len(example.masks)
        for file, mask in zip(named, example.masks, strict=True):
            yield part, example, file, mask


def _read(study: Study) -> list[Row]:
    return [row for row in _rows(study) if not row[3].error]


@check(Severity.ERROR)
def missing_mask(study: Study) -> Iterator[Hit]:
    """An image whose mask does not exist."""
    for part, example, file, mask in _rows(study):
        if mask.missing:
            yield of_example(part, example, f"no mask {file}")


@check(Severity.ERROR)
def broken_mask(study: Study) -> Iterator[Hit]:
    """A mask that cannot be read."""
    for part, example, file, mask in _rows(study):
        if mask.error and not mask.missing:
            yield of_example(part, example, mask.error, file)


@check(Severity.ERROR)
def mask_size_mismatch(study: Study) -> Iterator[Hit]:
    """A mask of another size than its image."""
    for part, example, file, mask in _read(study):
        picture = example.read
        if picture is None:
            continue
        sizes = {(picture.height, picture.width)}
        if picture.orientation > 4:
            sizes.add((picture.width, picture.height))
        if (mask.height, mask.width) not in sizes:
            message = f"{mask.width} x {mask.height}, its image {picture.width} x {picture.height}"
            yield of_example(part, example, message, file)


@check(Severity.ERROR)
def unknown_mask_value(study: Study) -> Iterator[Hit]:
    """A mask with values that are no class and not void."""
    known = {part.name: set(part.values) or _usual(part) for part in study.parts.values()}
    for part, example, file, mask in _read(study):
        odd = {value: n for value, n in mask.values.items() if value not in known[part.name]}
        if odd and known[part.name]:
            listed = ", ".join(f"{value} ({n} pixels)" for value, n in list(odd.items())[:5])
            yield of_example(
                part, example, f"{listed}; known are {sorted(known[part.name])[:20]}", file
            )


def _usual(part: Part) -> set[int]:
    """Values that at least half of the masks have, and 255, where no class is declared."""
    masks = [mask for example in part.examples for mask in example.masks if not mask.error]
    counts = Counter(value for mask in masks for value in mask.values)
    return {IGNORE_INDEX, *(value for value, n in counts.items() if 2 * n >= len(masks))}


@check(Severity.ERROR)
def mask_values_off_by_one(study: Study) -> Iterator[Hit]:
    """Masks whose values are one too large or too small throughout."""
    for part in study.parts.values():
        named = sorted(value for value, name in part.values.items() if name)
        found = {
            value
            for example in part.examples
            for mask in example.masks
            if not mask.error
            for value in mask.values
        } - {value for value, name in part.values.items() if not name}
        if len(named) < 3 or part.colours or named != list(range(named[0], named[-1] + 1)):
            continue
        if found and max(found) == named[-1] + 1 and named[0] not in found:
            yield of_part(
                part, f"values {min(found)} to {max(found)}, classes {named[0]} to {named[-1]}"
            )


@check(Severity.ERROR)
def foreground_taken_as_void(study: Study) -> Iterator[Hit]:
    """Masks of 0 and 255 in which a third value is taken as the foreground, and 255 as void."""
    for part in study.parts.values():
        inside = {value for value, name in part.values.items() if name}
        masks = [mask for example in part.examples for mask in example.masks if not mask.error]
        white = sum(IGNORE_INDEX in mask.values for mask in masks)
        named = sum(bool(inside & set(mask.values)) for mask in masks)
        if len(inside) == 1 and IGNORE_INDEX not in inside and named < white / 2:
            message = f"{inside.pop()} is the foreground, in {named} masks; 255 is void, in {white}"
            yield of_part(part, message)


@check(Severity.NOTE)
def empty_mask(study: Study) -> Iterator[Hit]:
    """A mask of background only."""
    for part, example in study.each():
        masks = [mask for mask in example.masks if not mask.error]
        if masks and len(masks) == len(example.masks) and _is_empty(part, masks):
            yield of_example(part, example, "background only")


def _is_empty(part: Part, masks: list[Mask]) -> bool:
    """Whether masks show the background and nothing else."""
    values = {value for mask in masks for value in mask.values}
    background = {value for value, name in part.values.items() if name.casefold() in _BACKGROUND}
    return bool(values & background) and values <= background


_BACKGROUND = ("", "background", "bg", "_background_", "__background__")


@check(Severity.WARNING)
def void_mask(study: Study) -> Iterator[Hit]:
    """A mask in which every pixel is void."""
    for part, example, file, mask in _read(study):
        named = {value for value, name in part.values.items() if name}
        if list(mask.values) == [IGNORE_INDEX] and IGNORE_INDEX not in named:
            yield of_example(part, example, "every pixel is 255, void", file)


@check(Severity.NOTE)
def single_class_mask(study: Study) -> Iterator[Hit]:
    """A mask of a single class, without background."""
    for part, example, file, mask in _read(study):
        if len(mask.values) == 1 and len(example.masks) == 1:
            name = part.values.get(next(iter(mask.values)), "")
            if name and name.casefold() not in _BACKGROUND:
                yield of_example(part, example, f"every pixel is {name}", file)


@check(Severity.ERROR)
def lossy_mask(study: Study) -> Iterator[Hit]:
    """A mask in a lossy format, which changes its values."""
    for part, example, file, mask in _read(study):
        if mask.lossy and file != example.file:
            yield of_example(part, example, f"{file.suffix}; store masks as PNG", file)


@check(Severity.ERROR)
def smoothed_mask(study: Study) -> Iterator[Hit]:
    """A mask with smooth edges: many values where there are few classes."""
    for part, example, file, mask in _read(study):
        extra = set(mask.values) - set(part.values)
        if part.classes and len(extra) >= GREYS and not part.colours:
            yield of_example(
                part, example, f"{len(mask.values)} values, {len(part.classes)} classes", file
            )


@check(Severity.WARNING)
def mixed_mask_modes(study: Study) -> Iterator[Hit]:
    """A few masks stored in another mode than the others."""
    rows = _read(study)
    modes = [mask.mode for *_, mask in rows]
    for place in minority(modes):
        part, example, file, mask = rows[place]
        yield of_example(part, example, f"mode {mask.mode}", file)


@check(Severity.WARNING)
def inverted_mask(study: Study) -> Iterator[Hit]:
    """A mask of two values whose foreground and background look exchanged."""
    rows = [row for row in _read(study) if _is_binary(row[0], row[3])]
    shares = [_foreground(part, mask) for part, _, _, mask in rows]
    if len(shares) < FEWEST:
        return
    usual = sorted(shares)[len(shares) * 9 // 10]
    for (part, example, file, _), share in zip(rows, shares, strict=True):
        if usual < INVERTED < share and 1 - share <= usual:
            yield of_example(
                part, example, f"{share:.0%} foreground, usually below {usual:.0%}", file
            )


def _is_binary(part: Part, mask: Mask) -> bool:
    return len([name for name in part.values.values() if name]) == 1 and len(mask.values) == 2


def _foreground(part: Part, mask: Mask) -> float:
    inside = sum(n for value, n in mask.values.items() if part.values.get(value))
    return inside / sum(mask.values.values())


@check(Severity.WARNING)
def repeated_mask(study: Study) -> Iterator[Hit]:
    """One mask for two different images."""
    first: dict[str, tuple[Path, str]] = {}
    for part, example, file, mask in _read(study):
        picture = example.read
        if picture is None or len(mask.values) < 2:
            continue
        other, content = first.setdefault(mask.content, (file, picture.content))
        if other != file and content != picture.content:
            yield of_example(part, example, f"equals {other}", file)


@check(Severity.ERROR)
def mask_is_image(study: Study) -> Iterator[Hit]:
    """A mask that is the image itself."""
    for part, example, file, mask in _read(study):
        if (
            example.read is not None
            and mask.content == example.read.content
            and len(mask.values) > 2
        ):
            yield of_example(part, example, "equals its image", file)


CHECKS = (
    missing_mask,
    mask_without_image,
    broken_mask,
    mask_size_mismatch,
    unknown_mask_value,
    foreground_taken_as_void,
    mask_values_off_by_one,
    empty_mask,
    void_mask,
    single_class_mask,
    lossy_mask,
    smoothed_mask,
    mixed_mask_modes,
    inverted_mask,
    repeated_mask,
    mask_is_image,
)
