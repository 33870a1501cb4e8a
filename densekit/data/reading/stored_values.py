"""Reads the stored values of mask files of every format.

H, W the size of the image, N planes of a multi-label mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit.data.reading.bit_depths import (
    Rescaling,
    UnreadableError,
    decoding,
    find_rescaling,
    has_more_channels,
    is_deep_colour,
    num_pages,
)
from densekit.data.reading.stacks import (
    ARRAY_SUFFIXES,
    TIFF_SUFFIXES,
    holds_colours,
    read_deep_png,
    read_stack,
    stack_size,
)
from densekit.data.reading.truncation import check_whole

_INDEX_MODES = ("1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N", "LA", "PA")
_COLOUR_MODES = ("RGB", "RGBA")
_PALETTE_MODES = ("P", "PA")


Palette = Mapping[int, tuple[int, Path]]
"""Colours, 0xRRGGBB, to their index and a mask that has it; other masks must agree with them."""


def palette_of(path: Path, others: Palette) -> Palette:
    """The colours of a mask that have one index each; empty without a palette.

    Raises:
        ValueError: As `stored_values`.
    """
    if _is_stack(path):
        return {}
    image, *_ = _open(path)
    if image.mode not in _PALETTE_MODES:
        return {}
    used, shades = _shades(image, _index(image))
    _check_palette(used, shades, path, others)
    return {colour: (index, path) for colour, index in _index_of(used, shades).items()}


def stored_values(path: Path, palette: Palette = MappingProxyType({})) -> NDArray[Any]:
    """The values of a grey mask, the indices of a palette mask, or the planes of a stack.

    Colour files whose channels are equal are read as grey, TIFF included.

    Args:
        path: The file.
        palette: The palette of the set's other masks: a colour must have the same index in all.

    Returns:
        Integers (H, W), or (N, H, W) for a `.npy` or TIFF file of several planes.

    Raises:
        ValueError: Naming the file, if it cannot be read, holds fractions or colours, or if its
            alpha channel or its palette contradicts the values.
    """
    if _is_stack(path):
        stack = read_stack(path)
        if stack.shape[2] > 2 and holds_colours(path):
            return _integers(_grey(stack[:, :, :3], path), path)
        planes = np.moveaxis(stack, -1, 0)
        return _integers(planes[0] if len(planes) == 1 else planes, path)
    image, deep, spread = _open(path)
    if image.mode in _INDEX_MODES:
        index = _index(image)
        if image.mode in _PALETTE_MODES:
            _check_palette(*_shades(image, index), path, palette)
        return _integers(index if spread is None else spread.stored(index), path)
    colours = _deep_colours(image, path) if deep else np.asarray(image.convert("RGB"))
    colours = colours if spread is None else spread.stored(colours)
    return _grey(colours, path)


def stored_colours(path: Path) -> NDArray[Any]:
    """(H, W) int32 colours of a mask, red * 65536 + green * 256 + blue; palettes are applied.

    Raises:
        ValueError: Naming the file, if it cannot be read, has more than 8 bits per channel, or its
            alpha channel separates pixels of one colour.
    """
    image, deep, _ = _open(path)
    if deep:
        raise ValueError(f"{path}: expected colours of 8 bits per channel, got 16")
    return pack(np.asarray(image.convert("RGB")))


def is_coloured(path: Path) -> bool:
    """Whether a file's header declares colours or a palette."""
    return stored_mode(path) in ("P", *_COLOUR_MODES)


def has_palette(path: Path) -> bool:
    """Whether a file's header declares a palette."""
    return stored_mode(path) in _PALETTE_MODES


def stored_mode(path: Path) -> str:
    """Pillow's mode, empty for files that Pillow cannot open (a TIFF of planes)."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return ""
    try:
        with Image.open(path) as image:
            return image.mode
    except Exception:  # a TIFF of planes, or a broken file, which is reported when it is read
        return ""


def mask_size(path: Path) -> tuple[int, int]:
    """Height and width from the file's header.

    Raises:
        ValueError: Naming the file, if it is not a mask.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return stack_size(path)
    try:
        with decoding(path, "mask"), Image.open(path) as image:
            return image.height, image.width
    except UnreadableError:
        if path.suffix.lower() in TIFF_SUFFIXES and path.is_file():
            return stack_size(path)
        raise


def pack(colours: NDArray[Any]) -> NDArray[Any]:
    """(..., 3) uint8 colours as (...) int32 numbers 0xRRGGBB."""
    parts = colours.astype(np.int32)
    packed: NDArray[Any] = (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]
    return packed


def unpack(value: int) -> list[int]:
    """[red, green, blue] of a packed colour."""
    return [value >> 16, value >> 8 & 255, value & 255]


def _is_stack(path: Path) -> bool:
    """Whether the file is an array, or a TIFF that Pillow would read in part or not at all."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in ARRAY_SUFFIXES
    try:
        with Image.open(path) as image:
            return num_pages(image) > 1 or has_more_channels(image)
    except Exception:  # Pillow raises errors of any type; tifffile says what is wrong
        return path.is_file()


def _open(path: Path) -> tuple[Image.Image, bool, Rescaling | None]:
    """The loaded image, whether Pillow cut it to 8 bits, and how it rescaled its values."""
    with decoding(path, "mask"), Image.open(path) as image:
        deep = is_deep_colour(image)
        spread = find_rescaling(image)
        image.load()
        check_whole(image, path)
    _check_alpha(image, path)
    return image, deep, spread


def _deep_colours(image: Image.Image, path: Path) -> NDArray[Any]:
    """(H, W, 3) colours of 16 bits."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return read_stack(path)[:, :, :3]
    if image.format != "PNG":
        raise ValueError(f"{path}: expected 8 bits per channel, got 16 in {image.format}")
    return read_deep_png(path)[:, :, :3]


def _grey(colours: NDArray[Any], path: Path) -> NDArray[Any]:
    """(H, W) values of colours (H, W, 3) that are all grey."""
    if (colours == colours[:, :, :1]).all():
        return np.ascontiguousarray(colours[:, :, 0])
    tiff_hint = "; in a TIFF whose planes are classes, set photometric=minisblack"
    raise ValueError(
        f"{path}: expected grey values, got colours {_listing(colours)}; name their classes in"
        " `colours: {name: [red, green, blue]}`"
        f"{tiff_hint * (path.suffix.lower() in TIFF_SUFFIXES)}"
    )


def _check_alpha(image: Image.Image, path: Path) -> None:
    """Raises if the mask is in the alpha channel, which separates pixels of one colour."""
    if "A" not in image.getbands():
        return
    alpha = np.asarray(image.getchannel("A"))
    if alpha.min() == alpha.max():
        return
    plain = image.getchannel(0) if image.mode in ("LA", "PA") else image.convert("RGB")
    drawn = np.asarray(plain).astype(np.int64)
    drawn = pack(drawn).astype(np.int64) if drawn.ndim == 3 else drawn
    if len(np.unique(drawn << 8 | alpha)) > len(np.unique(drawn)):
        values, counts = np.unique(alpha, return_counts=True)
        pairs = zip(values.tolist(), counts.tolist(), strict=True)
        found = ", ".join(f"{value} ({count} pixels)" for value, count in list(pairs)[:10])
        raise ValueError(
            f"{path}: expected a mask in the grey or colour channels, got one in the alpha channel:"
            f" {found}; save that channel as a grey PNG (Pillow: image.getchannel('A'))"
        )


def _index(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image.getchannel(0) if image.mode in ("LA", "PA") else image)


def _shades(image: Image.Image, index: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n,) indices that occur in a mask, and (n, 4) their red, green, blue and opacity."""
    used = np.flatnonzero(np.bincount(index.ravel()))  # 10 times faster than sorting
    row = Image.fromarray(used[None].astype(np.uint8)).convert("P")
    row.putpalette(image.getpalette() or [])
    row.info["transparency"] = image.info.get("transparency", b"")
    return used, np.asarray(row.convert("RGBA"))[0].astype(int)


def _index_of(used: NDArray[Any], shades: NDArray[Any]) -> dict[int, int]:
    """Colour to index, for the colours that have a single index."""
    colours = pack(shades[:, :3]).tolist()
    pairs = zip(colours, used.tolist(), strict=True)
    return {colour: index for colour, index in pairs if colours.count(colour) == 1}


def _check_palette(used: NDArray[Any], shades: NDArray[Any], path: Path, palette: Palette) -> None:
    """Raises if a program has numbered the palette by itself, so that the index is no class.

    GIF writers and `quantize` do. Greys, or opacities, are then not in the order of the index, and
    other colours have a different index in each file.
    """
    hint = "save the masks without a palette, or give `colours: {name: [red, green, blue]}`"
    for colour, index in _index_of(used, shades).items():
        wanted, other = palette.get(colour, (index, path))
        if wanted != index:
            raise ValueError(
                f"{path}: expected the colour {unpack(colour)} under the index {wanted} as in"
                f" {other}, got {index}; {hint}"
            )
    if (shades[:, :3] != shades[:, :1]).any():
        return
    greys = shades[:, 3] if (shades[:, 0] == shades[0, 0]).all() else shades[:, 0]
    if (np.diff(greys) < 0).any():
        pairs = ", ".join(f"{i}: {grey}" for i, grey in zip(used, greys, strict=True))
        raise ValueError(
            f"{path}: expected a palette whose greys rise with the index, got {{{pairs}}}; {hint}"
        )


def _integers(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        return values
    if not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise ValueError(f"{path}: expected whole numbers, got {np.unique(values)[:5]}")
    return values.astype(np.int64)


def _listing(colours: NDArray[Any]) -> str:
    values, counts = np.unique(colours.reshape(-1, 3), axis=0, return_counts=True)
    order = np.argsort(-counts)[:10]
    shown = [f"{values[i].tolist()} ({counts[i]} pixels)" for i in order]
    return ", ".join(shown) + (", ..." if len(values) > 10 else "")
