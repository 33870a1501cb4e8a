"""Images: size, mode, orientation, brightness, sharpness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from densekit.app.doctor.checks.outliers import FEWEST, minority, outliers
from densekit.app.doctor.facts import Example, Part, Picture, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example
from densekit.data.reading.orientation import UPRIGHT

HUGE = 50_000_000
"""Pixels from which an image needs much memory; Pillow warns at 89 million."""
SMALL = 16
"""Shorter side below which little can be seen."""
LONG = 8.0
"""Longer over shorter side from which resizing leaves little of an image."""
DARK, BRIGHT = 26.0, 245.0
"""Grey values: an image is dark if 99 % are below, bright if 95 % are above."""
FLAT = 4.0
"""Standard deviation of the grey values below which an image has hardly any contrast."""
BLUR = 8.0
"""Times by which an image is less sharp than the usual one of its data set."""
SOFT = 30.0
"""Variance of the Laplacian from which an image is sharp enough."""
FAR = 8.0
"""Robust standard deviations from which a size is unusual."""

Row = tuple[Part, Example, Picture]


def _rows(study: Study) -> list[Row]:
    return [(part, e, e.read) for part, e in study.each() if e.read is not None]


def _each(study: Study, wrong: Callable[[Picture], str]) -> Iterator[Hit]:
    """A hit for every image that is wrong, with what is wrong."""
    for part, example, picture in _rows(study):
        if message := wrong(picture):
            yield of_example(part, example, message)


def _odd(study: Study, what: Callable[[Picture], str]) -> Iterator[Hit]:
    """A hit for the images of which something is other than usual."""
    rows = _rows(study)
    values = [what(picture) for *_, picture in rows]
    odd = minority(values)
    usual = next((value for n, value in enumerate(values) if n not in set(odd)), "")
    for place in odd:
        part, example, _ = rows[place]
        yield of_example(part, example, f"{values[place]}, usually {usual}")


@check(Severity.WARNING)
def exif_orientation(study: Study) -> Iterator[Hit]:
    """An EXIF orientation: other tools may read the image lying on its side."""
    return _each(study, lambda p: _turned(p.orientation))


def _turned(orientation: int) -> str:
    return "" if orientation == UPRIGHT else f"EXIF orientation {orientation}"


@check(Severity.WARNING)
def huge_image(study: Study) -> Iterator[Hit]:
    """An image of so many pixels that it fills the memory."""
    return _each(study, lambda p: f"{p.width} x {p.height}" * (p.width * p.height > HUGE))


@check(Severity.WARNING)
def tiny_image(study: Study) -> Iterator[Hit]:
    """An image with a side of a few pixels."""
    return _each(study, lambda p: f"{p.width} x {p.height}" * (min(p.width, p.height) < SMALL))


@check(Severity.WARNING)
def long_image(study: Study) -> Iterator[Hit]:
    """An image many times longer than wide."""

    def wrong(picture: Picture) -> str:
        sides = sorted((picture.width, picture.height))
        return f"{picture.width} x {picture.height}" * (sides[1] >= LONG * sides[0])

    return _each(study, wrong)


@check(Severity.NOTE)
def size_outlier(study: Study) -> Iterator[Hit]:
    """An image far larger or smaller than the others."""
    rows = _rows(study)
    sides = [float(picture.width * picture.height) ** 0.5 for *_, picture in rows]
    for place in outliers(sides, FAR):
        part, example, picture = rows[place]
        usual = round(median(sides))
        yield of_example(part, example, f"{picture.width} x {picture.height}, usually {usual}²")


@check(Severity.WARNING)
def mixed_modes(study: Study) -> Iterator[Hit]:
    """A few images of another mode than the others (grey among colour, alpha)."""
    return _odd(study, lambda p: p.mode)


@check(Severity.WARNING)
def mixed_depths(study: Study) -> Iterator[Hit]:
    """A few images of another bit depth than the others."""
    return _odd(study, lambda p: f"{p.bits} bits")


@check(Severity.NOTE)
def mixed_formats(study: Study) -> Iterator[Hit]:
    """A few images in another file format than the others."""
    return _odd(study, lambda p: p.format)


@check(Severity.ERROR)
def undeclared_depth(study: Study) -> Iterator[Hit]:
    """An image of more than 8 bits where 8 are declared (dtype: float32)."""
    for part, example, picture in _rows(study):
        if part.dtype == "uint8" and picture.bits > 8:
            yield of_example(part, example, f"{picture.bits} bits ({picture.mode})")


@check(Severity.WARNING)
def print_colours(study: Study) -> Iterator[Hit]:
    """An image in colours for print, CMYK, whose conversion changes them."""
    return _each(study, lambda p: "CMYK" if p.mode == "CMYK" else "")


@check(Severity.NOTE)
def grey_in_colour(study: Study) -> Iterator[Hit]:
    """A grey image stored in colour among images in colour."""
    rows = [row for row in _rows(study) if row[2].mode == "RGB"]
    grey = [row for row in rows if row[2].grey]
    if len(grey) <= 0.2 * len(rows):
        for part, example, _ in grey:
            yield of_example(part, example, "red, green and blue are equal")


@check(Severity.WARNING)
def transparent_image(study: Study) -> Iterator[Hit]:
    """An image whose every pixel is transparent."""
    return _each(study, lambda p: "alpha is 0 everywhere" if p.clear else "")


@check(Severity.WARNING)
def constant_image(study: Study) -> Iterator[Hit]:
    """An image of a single value."""
    return _each(study, lambda p: "" if p.spread else "every pixel is equal")


@check(Severity.WARNING)
def dark_image(study: Study) -> Iterator[Hit]:
    """An image that is almost black."""
    return _each(
        study, lambda p: _level(p, p.high < DARK, f"99 % of the pixels below {p.high:.0f}")
    )


@check(Severity.WARNING)
def bright_image(study: Study) -> Iterator[Hit]:
    """An image that is almost white."""
    return _each(
        study, lambda p: _level(p, p.low > BRIGHT, f"95 % of the pixels above {p.low:.0f}")
    )


@check(Severity.WARNING)
def low_contrast(study: Study) -> Iterator[Hit]:
    """An image with hardly any contrast."""
    return _each(study, lambda p: _level(p, p.spread < FLAT, f"standard deviation {p.spread:.1f}"))


def _level(picture: Picture, hit: bool, message: str) -> str:
    """The message, for 8-bit images that are not constant."""
    return message * (hit and picture.bits == 8 and picture.spread > 0)


@check(Severity.WARNING)
def blurred_image(study: Study) -> Iterator[Hit]:
    """An image much less sharp than the others."""
    rows = [row for row in _rows(study) if row[2].spread >= FLAT]
    usual = _usual([picture.sharpness for *_, picture in rows])
    for part, example, picture in rows:
        if picture.sharpness < min(SOFT, usual / BLUR):
            message = f"sharpness {picture.sharpness:.1f}, usually {usual:.0f}"
            yield of_example(part, example, message)


def _usual(values: Sequence[float]) -> float:
    """The median; 0 of too few values to know what is usual."""
    return median(values) if len(values) >= FEWEST else 0.0


CHECKS = (
    exif_orientation,
    huge_image,
    tiny_image,
    long_image,
    size_outlier,
    mixed_modes,
    mixed_depths,
    mixed_formats,
    undeclared_depth,
    print_colours,
    grey_in_colour,
    transparent_image,
    constant_image,
    dark_image,
    bright_image,
    low_contrast,
    blurred_image,
)
