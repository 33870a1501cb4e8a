"""Half pictures: what decoders fill up with grey or zeros, and say nothing."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

from PIL import Image

from densekit.data.reading.bit_depths import UnreadableError

_GREY = range(127, 130)
"""Of 8 bits: what libjpeg gives where no data are left, in every colour space."""
_TAIL = 64
"""Zeros at the end of a compressed file that are no accident of its content."""
_LOOKAHEAD = bytes(16)
"""What libjpeg wants to see behind the last pixel; too little for more than a few blocks."""
_ZEROED = "it ends in zeros"
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
_END = b"\xff\xd9"


def check_whole(image: Image.Image, path: Path) -> None:
    """Refuses a loaded picture of which the file holds a part only.

    A progressive JPEG that was cut and closed, and damage in the middle, cannot be told.

    Args:
        image: As loaded, unconverted.
        path: Its file.

    Raises:
        UnreadableError: Naming the file.
    """
    if image.format == "PNG":
        fault = _png_fault(path.read_bytes())
    elif image.format in ("JPEG", "MPO"):
        fault = _jpeg_fault(image, path)
    else:
        fault = _zeroed(path) if image.format in ("WEBP", "AVIF") else ""
    if fault:
        raise UnreadableError(f"{path}: not a readable image: {fault}")


def _png_fault(content: bytes) -> str:
    """A critical chunk that is cut or whose check sum is wrong; decoders stop at the last pixel."""
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        name, end = content[place + 4 : place + 8], place + 8 + length
        if name[:1].isupper():
            found = int.from_bytes(content[end : end + 4], "big")
            if end + 4 > len(content) or zlib.crc32(content[place + 4 : end]) != found:
                return f"chunk {name!r} is damaged"
        place = end + 4
    return ""


def _jpeg_fault(image: Image.Image, path: Path) -> str:
    last = image.getpixel((image.width - 1, image.height - 1))
    grey = all(int(v) in _GREY for v in (last if isinstance(last, tuple) else (last or 0,)))
    if not grey and not _ends_in_zeros(path):
        return ""
    content = path.read_bytes()
    start, progressive = _first_scan(content)
    end = content.find(_END, start)
    if end < 0 and _ends_in_zeros(path):
        return _ZEROED
    if progressive or end < 0:
        return ""
    try:
        with Image.open(io.BytesIO(content[:end] + _LOOKAHEAD)) as cut:
            cut.load()
    except OSError:
        return "it was cut before its last pixel"
    return ""


def _first_scan(content: bytes) -> tuple[int, bool]:
    """Where the first scan of a JPEG begins, and whether there will be several."""
    place, progressive = 2, False
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        progressive |= marker == _PROGRESSIVE
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == _SCAN:
            break
    return place, progressive


def _zeroed(path: Path) -> str:
    """Zeros where the content of a WebP or AVIF file ends, by the sizes that it states."""
    if not _ends_in_zeros(path):
        return ""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[4:8], "little")
    if content[:4] != b"RIFF":
        end = 0
        while (size := int.from_bytes(content[end : end + 4], "big")) >= 8:
            end += size
    return "" if any(content[max(0, end - _TAIL) : end]) else _ZEROED


def _ends_in_zeros(path: Path) -> bool:
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        return not any(stream.read())
