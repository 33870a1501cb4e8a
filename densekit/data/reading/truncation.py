"""Detects truncated images, which decoders silently fill up with grey or zeros."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from densekit.data.reading.bit_depths import UnreadableError

_GREY = range(127, 130)
"""The 8-bit values that libjpeg fills in where no data are left, in every colour space."""
_TAIL = 64
"""Equal bytes at the end of a compressed file that cannot be part of its content."""
_ERASED = (bytes(_TAIL), b"\xff" * _TAIL)
"""The end of a file whose last part was not written: zeros, or what erased flash memory holds."""
_LOOKAHEAD = bytes(16)
"""Bytes that libjpeg reads ahead of the last pixel; too few for more than some blocks."""
_UNWRITTEN = "a last part that was not written"
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
_END = b"\xff\xd9"


def check_whole(image: Image.Image, path: Path) -> None:
    """Refuses a loaded image whose file holds only a part of it.

    Damage in the middle of a file, and a progressive JPEG that was cut and closed, go undetected.

    Args:
        image: The image as loaded, unconverted.
        path: Its file.

    Raises:
        UnreadableError: If the file is truncated, with its path.
    """
    if image.format in ("JPEG", "MPO"):
        last = image.getpixel((image.width - 1, image.height - 1))
        check_jpeg(last if isinstance(last, tuple) else (last or 0,), path)
    elif image.format == "PNG":
        _refuse(_png_damage(path.read_bytes()), path)
    elif image.format in ("WEBP", "AVIF"):
        _refuse(_unwritten(path), path)


def check_jpeg(last: Iterable[float], path: Path) -> None:
    """`check_whole` of a JPEG, from the channels of its last pixel as decoded."""
    if all(int(value) in _GREY for value in last) or _ends_unwritten(path):
        _refuse(_jpeg_damage(path), path)


def _refuse(damage: str, path: Path) -> None:
    if damage:
        raise UnreadableError(f"{path}: expected a readable image, got {damage}")


def _png_damage(content: bytes) -> str:
    """The first critical chunk that is cut or has a wrong checksum; decoders may not read it."""
    start = 8
    while start + 12 <= len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        name, end = content[start + 4 : start + 8], start + 8 + length
        if name[:1].isupper():
            checksum = int.from_bytes(content[end : end + 4], "big")
            if end + 4 > len(content) or zlib.crc32(content[start + 4 : end]) != checksum:
                return f"a damaged chunk {name!r}"
        start = end + 4
    return ""


def _jpeg_damage(path: Path) -> str:
    content = path.read_bytes()
    start, progressive = _first_scan(content)
    end = content.find(_END, start)
    if end < 0 and _ends_unwritten(path):
        return _UNWRITTEN
    if progressive or end < 0:
        return ""
    try:
        with Image.open(io.BytesIO(content[:end] + _LOOKAHEAD)) as cut:
            cut.load()
    except OSError:
        return "one cut before its last pixel"
    return ""


def _first_scan(content: bytes) -> tuple[int, bool]:
    """Offset of the first scan of a JPEG, and whether it is progressive."""
    offset, progressive = 2, False
    while offset + 4 <= len(content) and content[offset] == 0xFF:
        marker = content[offset + 1]
        if marker == 0xFF:
            offset += 1
            continue
        progressive |= marker == _PROGRESSIVE
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
        if marker == _SCAN:
            break
    return offset, progressive


def _unwritten(path: Path) -> str:
    """`_UNWRITTEN` if a WebP or AVIF file ends so within its stated size, else empty."""
    if not _ends_unwritten(path):
        return ""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[4:8], "little")
    if content[:4] != b"RIFF":
        end = 0
        while (size := int.from_bytes(content[end : end + 4], "big")) >= 8:
            end += size
    return _UNWRITTEN if content[max(0, end - _TAIL) : end] in _ERASED else ""


def _ends_unwritten(path: Path) -> bool:
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        return stream.read() in _ERASED
