"""Chooses fonts: class names may be in any script, and no font has every character."""

from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ImageFont

Typeset = tuple[str, ImageFont.FreeTypeFont]
"""A text and the font it is drawn with."""

logger = logging.getLogger(__name__)

_warned: set[str] = set()


def choose_font(text: str) -> tuple[str, str | None]:
    """Returns a text as one drawable line, and a font that has its characters.

    Args:
        text: Any text, such as a user's class name.

    Returns:
        The line, in which characters that no installed font has are replaced by their code points,
        `[732B]`, with one warning per process; and the font file, None if any font will do.
    """
    line = "".join(
        one if one.isprintable() else _number(one) for one in unicodedata.normalize("NFC", text)
    )
    if line.isascii():
        return line, None
    file = font_with(frozenset(line))
    if file is not None:
        return line, file
    there = characters(shipped())
    missing = "".join(sorted(set(line) - there))
    if not _warned:
        logger.warning(
            "no installed font has the characters %s of %r: images show their code points;"
            " install a font that has them, such as Noto Sans CJK",
            *(missing, text),
        )
    _warned.add(missing)
    return "".join(one if one in there else _number(one) for one in line), shipped()


def typeset(texts: Iterable[str], size: int) -> list[Typeset]:
    """Returns each text as Pillow can draw it, with a font of `size` pixels."""
    return [(line, font_of(size, file)) for line, file in map(choose_font, texts)]


@functools.lru_cache(maxsize=32)
def font_of(size: int, file: str | None = None) -> ImageFont.FreeTypeFont:
    """Loads a font from a file, Pillow's default font by default."""
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow: expected a build with FreeType to draw text, got one without")
    return font


@contextmanager
def matplotlib_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Makes matplotlib use fonts that have the characters of `texts`, and draw `$` literally.

    Args:
        texts: Texts to draw; pass each to matplotlib as `choose_font` returns it.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties

    files = sorted({file for text in texts if (file := choose_font(text)[1])})
    families = [FontProperties(fname=file).get_name() for file in (shipped(), *files)]
    with mpl.rc_context({"font.family": families, "text.parse_math": False}):
        yield


@functools.cache
def font_with(letters: frozenset[str]) -> str | None:
    """Returns the file of a font that has all of these characters, None if there is none."""
    return next((file for file in (shipped(), *installed()) if letters <= characters(file)), None)


@functools.cache
def shipped() -> str:
    """Path of DejaVu Sans in matplotlib: Latin, Greek, Cyrillic and more, but no Chinese."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@functools.cache
def installed() -> tuple[str, ...]:
    """Files of the installed fonts, upright sans-serif ones of normal weight first.

    Excludes matplotlib's Last Resort, which draws every character of a script as one box.
    """
    from matplotlib.font_manager import fontManager

    found = sorted(
        fontManager.ttflist,
        key=lambda font: ("Sans" not in font.name, font.style != "normal", font.weight != 400),
    )
    return tuple(dict.fromkeys(f.fname for f in found if not f.name.startswith("Last Resort")))


@functools.cache
def characters(file: str) -> frozenset[str]:
    """Characters of a font file, none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _number(letter: str) -> str:
    return f"[{ord(letter):X}]"
