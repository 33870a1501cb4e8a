"""Recovers the stored values of bit depths that Pillow rescales.

Pillow rescales 2- and 4-bit grey, PGM of any maxval and JPEG 2000 of any precision to its own
range, inverts some files and drops the low byte of 16-bit colour. The only hint is the raw mode of
a file that is not loaded yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from densekit._reading import check_regular
from densekit.data.reading.limits import limit_pillow, too_large

_BITS = 258
"""TIFF tag BitsPerSample."""
_CHANNELS = 277
"""TIFF tag SamplesPerPixel."""
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

_REDUCED_OR_MASK = 5
"""Bits of NewSubfileType: the page is a reduced copy of another page, or its mask."""
_SUBFILE = 254
"""TIFF tag NewSubfileType."""

_GREY = re.compile(r"^L;?(\d*)(I?)R?$")
"""Raw modes of grey: the bit depth where it is below the mode's, and whether it is inverted."""


class UnreadableError(ValueError):
    """A file is damaged or in an unknown format."""


@dataclass(frozen=True)
class Rescaling:
    """How Pillow rescales the stored values of a file.

    Attributes:
        largest: The largest value that the file can store.
        shown: What Pillow turns it into.
        inverted: Whether a stored 0 becomes the largest value.
    """

    largest: int
    shown: int
    inverted: bool = False

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Undoes the rescaling: the values of the file, in uint8 or uint16."""
        wide = values.astype(np.int64)
        if self.inverted:
            wide = self.shown - wide
        exact = (2 * wide * self.largest + self.shown) // (2 * self.shown)
        return exact.astype(np.uint8 if self.largest < 256 else np.uint16)


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a decoder raises into one `UnreadableError` that names the file.

    Args:
        path: The file.
        what: What the file should be, for the message.
    """
    check_regular(path)
    limit_pillow()
    try:
        yield
    except (MemoryError, ImportError):  # a package of ours is missing
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(too_large(path, "more")) from error
    except Exception as error:  # Pillow raises whatever it meets
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        cause = str(error) or type(error).__name__
        raise UnreadableError(f"{path}: expected a readable {what}, got {cause}") from error


def num_pages(image: Image.Image) -> int:
    """Number of a TIFF's pages that are neither thumbnails nor masks; 1 for other files."""
    count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if count == 1:
        return 1
    pages = 0
    for page in range(count):
        image.seek(page)
        tags: Any = getattr(image, "tag_v2", {})
        pages += not int(tags.get(_SUBFILE, 0)) & _REDUCED_OR_MASK
    image.seek(0)
    return pages


def has_more_channels(image: Image.Image) -> bool:
    """Whether a TIFF that is not loaded yet has channels that Pillow drops."""
    tags: Any = getattr(image, "tag_v2", {})
    return image.mode != "P" and int(tags.get(_CHANNELS, 1)) > len(image.getbands())


def find_rescaling(image: Image.Image) -> Rescaling | None:
    """How Pillow will rescale the values of a file that is not loaded yet; None if it will not.

    In 1-bit images white is 1 and black is 0 in every format, however the codec stores them.

    Raises:
        ValueError: If the values would change in a way that cannot be undone.
    """
    if image.format == "PPM":
        return _rescaling_of_ppm(image)
    if image.format == "JPEG2000":
        return _rescaling_of_jpeg2000(image)
    if image.format == "BMP":
        _refuse_packed_bmp(image)
    if image.format == "AVIF":
        _refuse_deep_avif(image)
    grey = _GREY.match(raw_mode(image)) if image.format in ("PNG", "TIFF") else None
    if grey is None or not (grey[1] or grey[2]):
        return None
    return Rescaling(2 ** int(grey[1] or 8) - 1, 255, bool(grey[2]))


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file that is not loaded yet has 16-bit colour, of which Pillow keeps 8 bits."""
    if image.format == "PPM":
        return image.mode == "RGB" and _maxval(image) > 255
    if isinstance(image, TiffImageFile):  # the raw mode of separate planes has no bit depth
        return max(image.tag_v2.get(_BITS, (1,))) > 8 and image.mode not in DEEP_MODES
    return ";16" in raw_mode(image) and image.mode not in DEEP_MODES


def raw_mode(image: Image.Image) -> str:
    """The raw mode of a file that is not loaded yet, e.g. `RGB;16B`; empty if unknown."""
    arguments = _arguments(image)
    return str(arguments[0] if arguments and isinstance(arguments, tuple) else arguments)


def _arguments(image: Image.Image) -> Any:
    """The decoder arguments of the first tile of a file that is not loaded yet."""
    tiles: Any = getattr(image, "tile", ())
    return tiles[0][3] if tiles else ""


def _shown(image: Image.Image) -> int:
    return 65535 if image.mode in DEEP_MODES else 255


def _maxval(image: Image.Image) -> int:
    """The maxval of a PGM or PPM; Pillow hands it to the decoder only where it rescales."""
    arguments = _arguments(image)
    has_maxval = isinstance(arguments, tuple) and len(arguments) == 2
    return int(arguments[1]) if has_maxval else _shown(image)


def _rescaling_of_ppm(image: Image.Image) -> Rescaling | None:
    if image.mode in ("1", "F") or _maxval(image) == _shown(image):
        return None
    return Rescaling(_maxval(image), _shown(image))


def _rescaling_of_jpeg2000(image: Image.Image) -> Rescaling | None:
    """JPEG 2000 is shifted up to 8 or 16 bits; its SIZ marker holds the stored precision."""
    head = _head(image, 1 << 16)
    offset = head.find(b"\xff\x4f\xff\x51") + 42
    if offset < 42:
        return None
    signed, bits = head[offset] >> 7, (head[offset] & 127) + 1
    room = _shown(image).bit_length()
    if signed or bits > room:
        raise ValueError(
            f"{'signed' if signed else 'unsigned'} {bits}-bit JPEG 2000 of mode {image.mode};"
            f" unsigned ones of at most {room} bits can be read"
        )
    largest = 2**bits - 1
    return Rescaling(largest, largest << (room - bits)) if bits < room else None


def _refuse_packed_bmp(image: Image.Image) -> None:
    bits = int.from_bytes(_head(image, 30)[28:30], "little")
    if image.mode == "L" and bits != 8:
        raise ValueError(f"a {bits}-bit BMP with a grey palette; save it with 8 bits or as PNG")


def _refuse_deep_avif(image: Image.Image) -> None:
    head = _head(image, 1 << 12)
    offset = head.find(b"av1C")
    if offset >= 0 and head[offset + 6] & 64:
        raise ValueError("an AVIF of more than 8 bits, of which Pillow keeps 8; save it as PNG")


def _head(image: Image.Image, size: int) -> bytes:
    """The first bytes of the file."""
    stream: Any = getattr(image, "fp", None)
    if stream is None:
        return b""
    position = stream.tell()
    stream.seek(0)
    head: bytes = stream.read(size)
    stream.seek(position)
    return head
