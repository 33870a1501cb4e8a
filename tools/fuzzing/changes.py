"""Changes that turn a valid file into a bad one: of its bytes, or of the values in its text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Change = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    *("nan", "NaN", "inf", "-Infinity", "1e400", "-1", "0", "-0.0", "1e-320", "0x10", "1_000"),
    *(str(2**31), str(2**63), str(-(2**63)), str(2**64), "9" * 400, "1e18", "0.1", "1.0"),
)
WORDS = (
    *("null", "true", '""', "[]", "{}", "[[]]", '"a"', '{"a": [1]}', "x" * 5000, "ä\u202eb"),
    *("\\u0000", "\x1b[2J", "[bold red]a[/bold red]", "../../../etc/passwd", "/dev/zero", "~"),
    *("[" * 3000, '{"a":' * 3000, "&a [*a]", "!!python/name:os.system", "${oc.env:HOME}", "\x00"),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_VALUE = re.compile(rb"\"[^\"]*\"|[\w.+-]+")


def flip(content: bytes, chosen: random.Random) -> bytes:
    """Changes one to four bits."""
    if not content:
        return content
    changed = bytearray(content)
    for _ in range(chosen.choice((1, 1, 2, 4))):
        place = _place(content, chosen)
        changed[place] ^= 1 << chosen.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, chosen: random.Random) -> bytes:
    """Writes extreme bytes over one to eight others."""
    place, length = _place(content, chosen), chosen.choice((1, 2, 4, 8))
    filling = bytes([chosen.choice((0, 0x7F, 0x80, 0xFF))]) * length
    return content[:place] + filling[: len(content) - place] + content[place + length :]


def truncate(content: bytes, chosen: random.Random) -> bytes:
    """Cuts the end off."""
    return content[: _place(content, chosen)]


def zero_tail(content: bytes, chosen: random.Random) -> bytes:
    """Fills the end with zeros, as a download that stopped."""
    place = _place(content, chosen)
    return content[:place] + bytes(len(content) - place)


def repeat(content: bytes, chosen: random.Random) -> bytes:
    """Inserts a part a second time."""
    start, place = _place(content, chosen), _place(content, chosen)
    return content[:place] + content[start : start + 64] + content[place:]


def remove(content: bytes, chosen: random.Random) -> bytes:
    """Leaves a part out."""
    place = _place(content, chosen)
    return content[:place] + content[place + chosen.choice((1, 2, 16, 64)) :]


def number(content: bytes, chosen: random.Random) -> bytes:
    """Replaces a number of a text."""
    return _replaced(content, _NUMBER, NUMBERS, chosen)


def value(content: bytes, chosen: random.Random) -> bytes:
    """Replaces a word or a quoted text of a text."""
    return _replaced(content, _VALUE, (*WORDS, *NUMBERS), chosen)


def other_file(content: bytes, chosen: random.Random) -> bytes:
    """Replaces the file by one of another kind."""
    return chosen.choice(
        (
            b"",
            b"\n",
            b"\x00" * 100,
            b"<!DOCTYPE html><html><body>Sign in</body></html>",
            b'{"message": "not found"}',
            b"\xff\xfea\x00b\x00",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            content.decode("latin1").encode("utf-16"),
        )
    )


BYTES: tuple[Change, ...] = (
    flip,
    overwrite,
    truncate,
    zero_tail,
    repeat,
    remove,
    other_file,
)
TEXT: tuple[Change, ...] = (*BYTES, *(number, value) * 4)


def _place(content: bytes, chosen: random.Random) -> int:
    """A place in the file, half of the time in its first 256 bytes, where headers are."""
    end = min(256, len(content)) if chosen.random() < 0.5 else len(content)
    return chosen.randrange(max(1, end)) if content else 0


def _replaced(
    content: bytes, pattern: re.Pattern[bytes], others: tuple[str, ...], chosen: random.Random
) -> bytes:
    found = list(pattern.finditer(content))
    if not found:
        return flip(content, chosen)
    match = chosen.choice(found)
    return content[: match.start()] + chosen.choice(others).encode() + content[match.end() :]
