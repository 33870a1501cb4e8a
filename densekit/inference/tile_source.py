"""Reads windows of huge images without reading the whole image.

Shape letters: H and W the sides of an image, C its channels.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need

CACHE_BYTES = 64 << 20
"""Size of the cache of decoded tiles; the next window needs some of them again."""
LARGEST_SEGMENT = 256 << 20
"""Limit in bytes for a strip or tile, which is decoded whole."""
TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi")
SUFFIXES = (*TIFF_SUFFIXES, ".npy")

Box = tuple[slice, slice]


class TileSource:
    """An image file of which any window can be read.

    Args:
        path: A TIFF, tiled or in strips, or a `.npy` file of (H, W) or (H, W, C).

    Attributes:
        shape: (H, W, C).
        dtype: Of the stored values.

    Raises:
        ValueError: The file cannot be read window by window; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(
                f"{path}: expected one of {', '.join(SUFFIXES)} to read tiles from, got {suffix!r}"
            )
        array, self._read = _open_npy(path) if suffix == ".npy" else _open_tiff(path)
        if len(array.shape) not in (2, 3):
            raise ValueError(f"{path}: expected shape (H, W) or (H, W, C), got {array.shape}")
        self.shape = (*array.shape, 1)[:3]
        self.dtype = array.dtype

    def window(self, box: Box) -> NDArray[Any]:
        """Reads a window inside the image, (h, w, C)."""
        part = self._read(box)
        return part.reshape(*part.shape[:2], self.shape[2])

    def thumbnail(self, side: int) -> tuple[NDArray[Any], int]:
        """Reads every n-th pixel, so that neither side exceeds `side`; returns them and n."""
        step = max(1, -(-max(self.shape[:2]) // side))
        rows = []
        for top in range(0, self.shape[0], step):
            line = self.window((slice(top, top + 1), slice(0, self.shape[1])))
            rows.append(line[:, ::step].copy())
        return np.concatenate(rows), step


class _Header:
    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)


Reader = tuple[_Header, Callable[[Box], NDArray[Any]]]


def _open_npy(path: Path) -> Reader:
    def mapped() -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: expected a NumPy array, got {error}") from error
        return array

    header = mapped()
    # Mapped anew for each window: pages of an old map would count as memory in use.
    return _Header(header.shape, header.dtype), lambda box: np.array(mapped()[box])


def _open_tiff(path: Path) -> Reader:
    tifffile = need("tifffile", f"{path}: reading tiles", "tiles")
    try:
        file = tifffile.TiffFile(path)
    except (OSError, struct.error, tifffile.TiffFileError) as error:
        raise ValueError(f"{path}: expected a TIFF, got {error}") from error
    page: Any = file.pages.first
    if len(file.series[0].pages) > 1 or page.axes not in ("YX", "YXS"):
        raise ValueError(
            f"{path}: expected one page with interleaved channels (axes YX or YXS), got "
            f"{len(file.series[0].pages)} pages with the axes {page.axes}"
        )
    header = _Header(page.shape, page.dtype)
    if page.is_memmappable:
        return header, lambda box: np.array(tifffile.memmap(path, page=0, mode="r")[box])
    return header, _Segments(path, file, page).read


class _Segments:
    """Decodes the tiles or strips of one page on demand."""

    def __init__(self, path: Path, file: Any, page: Any) -> None:
        self.path, self.file, self.page = path, file, page
        height, width = page.shape[:2]
        tile = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
        self.sides = min(tile[0], height), min(tile[1], width)
        self.columns = -(-width // tile[1])
        size = int(np.prod(self.sides)) * page.samplesperpixel * page.dtype.itemsize
        if size > LARGEST_SEGMENT:
            raise ValueError(
                f"{path}: expected tiles or strips of at most {LARGEST_SEGMENT >> 20} MB, got "
                f"{self.sides[0]} x {self.sides[1]} pixels of {size >> 20} MB each; store it in "
                "tiles, for example of 512 x 512"
            )
        self.kept = max(1, CACHE_BYTES // size)
        self.cache: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def read(self, box: Box) -> NDArray[Any]:
        """Reads a window, (h, w) or (h, w, C)."""
        (top, bottom), (left, right) = ((part.start, part.stop) for part in box)
        shape = (bottom - top, right - left, *self.page.shape[2:])
        out = np.zeros(shape, self.page.dtype)
        for index, row, column in self._touched(box):
            segment = self._segment(index)  # (h, w, C)
            y0, x0 = max(top, row), max(left, column)
            y1, x1 = min(bottom, row + len(segment)), min(right, column + segment.shape[1])
            target = out[y0 - top : y1 - top, x0 - left : x1 - left]
            target[...] = segment[y0 - row : y1 - row, x0 - column : x1 - column].reshape(
                target.shape
            )
        return out

    def _touched(self, box: Box) -> Iterator[tuple[int, int, int]]:
        """Index, top row and left column of every segment that overlaps a window."""
        (high, wide), (rows, columns) = self.sides, box
        for y in range(rows.start // high, -(-rows.stop // high)):
            for x in range(columns.start // wide, -(-columns.stop // wide)):
                yield y * self.columns + x, y * high, x * wide

    def _segment(self, index: int) -> NDArray[Any]:
        if index in self.cache:
            self.cache.move_to_end(index)
            return self.cache[index]
        handle = self.file.filehandle
        handle.seek(self.page.dataoffsets[index])
        count = self.page.databytecounts[index]
        data = handle.read(count) if count else None
        try:
            decoded, _, shape = self.page.decode(
                data, index, jpegtables=self.page.jpegtables, jpegheader=self.page.jpegheader
            )
        except (ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
            raise ValueError(
                f"{self.path}: expected tiles that tifffile can decode, got an error at tile "
                f"{index}: {error}; LZW, JPEG and others need: pip install imagecodecs"
            ) from error
        if decoded is None:  # a tile that was never written
            decoded = np.full(shape, self.page.nodata, self.page.dtype)
        segment: NDArray[Any] = decoded.reshape(decoded.shape[-3:])[: shape[1], : shape[2]]
        self.cache[index] = segment
        while len(self.cache) > self.kept:
            self.cache.popitem(last=False)
        return segment
