"""Fonts of pictures: class names are in any script, and no font has every character."""

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
    """What to draw of a text, and the font to draw it with.

    Args:
        text: Any characters, such as a class name of the user's.

    Returns:
        One line, in which a character that no installed font has is replaced by its code point,
        `[732B]`, with one warning per process; the file of the font, None where any font will do.
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
            "no installed font has the characters %s of %r: pictures show their code points;"
            " install one that has them, such as Noto Sans CJK",
            *(missing, text),
        )
    _warned.add(missing)
    return "".join(one if one in there else _number(one) for one in line), shipped()


def typeset(texts: Iterable[str], size: int) -> list[Typeset]:
    """Each text as Pillow can draw it, and a font of `size` pixels that has its characters."""
    return [(line, font_of(size, file)) for line, file in map(choose_font, texts)]


@functools.lru_cache(maxsize=32)
def font_of(size: int, file: str | None = None) -> ImageFont.FreeTypeFont:
    """The font of a file, Pillow's default font without one."""
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType, which draws the names")
    return font


@contextmanager
def matplotlib_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Lets matplotlib draw texts with fonts that have their characters, and no `$` as a formula.

    Args:
        texts: What is drawn; give each to matplotlib as `choose_font` returns it.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties

    files = sorted({file for text in texts if (file := choose_font(text)[1])})
    families = [FontProperties(fname=file).get_name() for file in (shipped(), *files)]
    with mpl.rc_context({"font.family": families, "text.parse_math": False}):
        yield


@functools.cache
def font_with(letters: frozenset[str]) -> str | None:
    """The file of a font that has all of these characters, None without one."""
    return next((file for file in (shipped(), *installed()) if letters <= characters(file)), None)


@functools.cache
def shipped() -> str:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic and more, no Chinese."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@functools.cache
def installed() -> tuple[str, ...]:
    """Files of the fonts of this machine, upright sans-serif ones of normal weight first.

    Not matplotlib's Last Resort, which draws every character of a script as one box.
    """
    from matplotlib.font_manager import fontManager

    found = sorted(
        fontManager.ttflist,
        key=lambda font: ("Sans" not in font.name, font.style != "normal", font.weight != 400),
    )
    return tuple(dict.fromkeys(f.fname for f in found if not f.name.startswith("Last Resort")))


@functools.cache
def characters(file: str) -> frozenset[str]:
    """The characters of a font, none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _number(letter: str) -> str:
    return f"[{ord(letter):X}]"
