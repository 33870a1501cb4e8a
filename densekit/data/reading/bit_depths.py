"""What Pillow makes of numbers of an odd depth, and the way back to those that the file stores.

Pillow spreads grey of 2 and 4 bits, PGM of any largest value and JPEG 2000 of any precision over
its own range, turns light and dark of some files round and drops the low byte of 16-bit colour; it
says so nowhere but in the raw mode of a file that is not loaded yet.
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

_BITS = 258
"""TIFF's tag of the bits of each channel."""
_CHANNELS = 277
"""TIFF's tag of their number."""
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

_REDUCED_OR_MASK = 5
"""Bits of a TIFF page's sub-file type: a smaller copy of another page, or its mask."""
_SUBFILE = 254

_GREY = re.compile(r"^L;?(\d*)(I?)R?$")
"""Raw modes of grey: its bits where they are fewer than the mode's, and whether it is inverted."""


class UnreadableError(ValueError):
    """A file is damaged or of no known format."""


@dataclass(frozen=True)
class Spread:
    """How stored numbers are shown.

    Attributes:
        largest: The largest one that the file could store.
        shown: What Pillow makes of it.
        inverted: Whether 0 is shown as the largest.
    """

    largest: int
    shown: int
    inverted: bool = False

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """The numbers of the file, of the smallest whole type that holds them."""
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
        what: It was to be, for the message.
    """
    try:
        yield
    except (MemoryError, ImportError):  # a package of ours is missing
        raise
    except Exception as error:  # Pillow raises whatever it meets
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        said = str(error) or type(error).__name__
        raise UnreadableError(f"{path}: not a readable {what}: {said}") from error


def num_pages(image: Image.Image) -> int:
    """Pages of a TIFF that are pictures of their own; 1 for other files."""
    count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if count == 1:
        return 1
    whole = 0
    for page in range(count):
        image.seek(page)
        tags: Any = getattr(image, "tag_v2", {})
        whole += not int(tags.get(_SUBFILE, 0)) & _REDUCED_OR_MASK
    image.seek(0)
    return whole


def has_more_channels(image: Image.Image) -> bool:
    """Whether a TIFF that is not loaded yet has channels that Pillow leaves out."""
    tags: Any = getattr(image, "tag_v2", {})
    return image.mode != "P" and int(tags.get(_CHANNELS, 1)) > len(image.getbands())


def find_spread(image: Image.Image) -> Spread | None:
    """How the numbers of a file that is not loaded yet are changed, None where they are not.

    Of one bit, white is 1 and black 0 in every format, whichever way its codec stores them.

    Raises:
        ValueError: They would be changed in a way that cannot be undone.
    """
    if image.format == "PPM":
        return _of_ppm(image)
    if image.format == "JPEG2000":
        return _of_jpeg2000(image)
    if image.format == "BMP":
        _refuse_packed_bmp(image)
    if image.format == "AVIF":
        _refuse_deep_avif(image)
    grey = _GREY.match(raw_mode(image)) if image.format in ("PNG", "TIFF") else None
    if grey is None or not (grey[1] or grey[2]):
        return None
    return Spread(2 ** int(grey[1] or 8) - 1, 255, bool(grey[2]))


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file that is not loaded yet has 16 bits a channel, of which Pillow keeps eight."""
    if image.format == "PPM":
        return image.mode == "RGB" and _maxval(image) > 255
    if isinstance(image, TiffImageFile):  # of planes apart the raw mode tells no depth
        return max(image.tag_v2.get(_BITS, (1,))) > 8 and image.mode not in DEEP_MODES
    return ";16" in raw_mode(image) and image.mode not in DEEP_MODES


def raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, `RGB;16B`, as far as that is known before it is loaded."""
    arguments = _arguments(image)
    return str(arguments[0] if arguments and isinstance(arguments, tuple) else arguments)


def _arguments(image: Image.Image) -> Any:
    """What Pillow tells the decoder of the first part of a file that is not loaded yet."""
    tiles: Any = getattr(image, "tile", ())
    return tiles[0][3] if tiles else ""


def _shown(image: Image.Image) -> int:
    return 65535 if image.mode in DEEP_MODES else 255


def _maxval(image: Image.Image) -> int:
    """The largest number of a PGM or PPM; Pillow tells it where it spreads the others."""
    arguments = _arguments(image)
    told = isinstance(arguments, tuple) and len(arguments) == 2
    return int(arguments[1]) if told else _shown(image)


def _of_ppm(image: Image.Image) -> Spread | None:
    if image.mode in ("1", "F") or _maxval(image) == _shown(image):
        return None
    return Spread(_maxval(image), _shown(image))


def _of_jpeg2000(image: Image.Image) -> Spread | None:
    """JPEG 2000 is shifted up to 8 or 16 bits; its size marker has the precision of a channel."""
    head = _head(image, 1 << 16)
    place = head.find(b"\xff\x4f\xff\x51") + 42
    if place < 42:
        return None
    signed, bits = head[place] >> 7, (head[place] & 127) + 1
    room = _shown(image).bit_length()
    if signed or bits > room:
        raise ValueError(
            f"JPEG 2000 of {bits} bits{' with a sign' * signed} in {image.mode}; expected at most"
            f" {room} without one"
        )
    largest = 2**bits - 1
    return Spread(largest, largest << (room - bits)) if bits < room else None


def _refuse_packed_bmp(image: Image.Image) -> None:
    bits = int.from_bytes(_head(image, 30)[28:30], "little")
    if image.mode == "L" and bits != 8:
        raise ValueError(f"BMP of {bits} bits with a grey palette; expected 8 bits, or PNG")


def _refuse_deep_avif(image: Image.Image) -> None:
    head = _head(image, 1 << 12)
    place = head.find(b"av1C")
    if place >= 0 and head[place + 6] & 64:
        raise ValueError("AVIF of more than 8 bits, of which 8 would be kept; expected 8, or PNG")


def _head(image: Image.Image, size: int) -> bytes:
    """The first bytes of the file."""
    stream: Any = getattr(image, "fp", None)
    if stream is None:
        return b""
    place = stream.tell()
    stream.seek(0)
    head: bytes = stream.read(size)
    stream.seek(place)
    return head
