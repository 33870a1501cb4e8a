"""The mapping from the stored values of a mask to classes.

H, W the size of the image, K classes, N planes of a stored multi-label mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.data.reading.stored_values import Palette, stored_colours, stored_values, unpack
from densekit.types import IGNORE_INDEX

UNKNOWN = 254
"""Table entry of a stored value that is neither a class nor ignored."""

LOSSY = (".jpg", ".jpeg", ".webp")
LOSSY_HINT = "JPEG changes values, store masks as PNG"
BACKGROUND = ("background", "bg", "__background__", "_background_")


@dataclass(frozen=True)
class MaskCode:
    """The classes of a set of masks and how they are stored.

    Attributes:
        names: K class names.
        values: The stored value of each class; colours are 0xRRGGBB. In a multi-label set all
            are the value of the foreground.
        ignore: Stored values that become 255.
        rest: The stored value of the background in a binary or multi-label set; None in others.
        colours: Whether classes are stored as colours.
        multilabel: Whether a mask has one plane, or one file, per class.
        palette: The masks' common palette where their index is read: each colour has one index.
    """

    names: list[str]
    values: list[int]
    ignore: tuple[int, ...] = ()
    rest: int | None = None
    colours: bool = False
    multilabel: bool = False
    palette: Palette = field(default_factory=dict)

    def read(self, paths: Sequence[Path | None], size: tuple[int, int]) -> NDArray[Any]:
        """Reads the classes of one image.

        Args:
            paths: Its mask file, or one per class, None where the image has nothing of a class.
            size: Height and width.

        Returns:
            uint8: (H, W) of 0..K-1, (H, W) of 0 and 1 if K = 1, or multi-label (K, H, W) of 0 and
            1; 255 where ignored.

        Raises:
            ValueError: Naming the file, for a value outside the classes, with its pixel count.
        """
        if not self.multilabel:
            (path,) = paths
            assert path is not None
            return self._encode(self._stored(path), path, (size,))
        if len(paths) == 1 and paths[0] is not None:
            return self._encode(self._stored(paths[0]), paths[0], ((len(self.names), *size),))
        mask = np.zeros((len(self.names), *size), dtype=np.uint8)
        for plane, path in zip(mask, paths, strict=True):
            if path is not None:
                plane[:] = self._encode(self._stored(path), path, (size,))
        return mask

    def _stored(self, path: Path) -> NDArray[Any]:
        return stored_colours(path) if self.colours else stored_values(path, self.palette)

    def _encode(
        self, stored: NDArray[Any], path: Path, accepted: tuple[tuple[int, ...], ...]
    ) -> NDArray[Any]:
        if stored.shape not in accepted:
            raise ValueError(
                f"{path}: expected a mask of shape {' or '.join(map(str, accepted))} (classes:"
                f" {', '.join(self.names)}), got {stored.shape}"
            )
        known = None
        if stored.dtype != np.uint8:
            known = (stored >= self._lowest) & (stored < len(self._table) + self._lowest)
        inside = stored if known is None or known.all() else np.where(known, stored, 0)
        mask: NDArray[Any] = self._table.take(inside)  # faster than indexing
        wrong = mask == UNKNOWN if known is None else (mask == UNKNOWN) | ~known
        if wrong.any():
            raise ValueError(self._unknown(stored[wrong], path))
        return mask

    @cached_property
    def _table(self) -> NDArray[Any]:
        """(V,) uint8: stored value to class, 255 where ignored, `UNKNOWN` elsewhere."""
        entries = dict.fromkeys(self.ignore, IGNORE_INDEX)
        if not self.colours:
            entries[IGNORE_INDEX] = IGNORE_INDEX
        if self.rest is None:
            entries |= {value: label for label, value in enumerate(self.values)}
        else:
            entries |= {self.rest: 0, self.values[0]: 1}
        # Negative values have their entries at the end, where NumPy's negative indices point.
        table = np.full(max(255, *entries) + 1 - self._lowest, UNKNOWN, dtype=np.uint8)
        for value, label in entries.items():
            table[value] = label
        return table

    @property
    def _lowest(self) -> int:
        return min(0, self.rest or 0, *self.values, *self.ignore)

    def _unknown(self, stored: NDArray[Any], path: Path) -> str:
        values, counts = np.unique(stored, return_counts=True)
        pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
        found = ", ".join(f"{self._shown(value)} ({count} pixels)" for value, count in pairs[:10])
        more = f", ... ({len(pairs)} values)" if len(pairs) > 10 else ""
        lossy = f"; {LOSSY_HINT}" if is_lossy(path) else ""
        return (
            f"{path}: expected the values {self._accepted()}, got {found}{more}{lossy}; name the"
            " class, or list the value in `ignore`"
        )

    def _accepted(self) -> str:
        if self.rest is not None:
            return f"{self.rest} (background) and {self.values[0]} ({' / '.join(self.names)})"
        classes = [f"{self._shown(v)} ({n})" for v, n in zip(self.values, self.names, strict=True)]
        more = f", ... ({len(classes)} in all)" if len(classes) > 20 else ""
        return ", ".join(classes[:20]) + more

    def _shown(self, value: int) -> str:
        return str(unpack(value)) if self.colours else str(value)

    def describe(self) -> dict[str, Any]:
        """The masks' part of `Dataset.describe`: names, ids, number of classes and their kind."""
        several = self.rest is None
        planes = {"plane_values": [self.rest, self.values[0]]} if self.multilabel else {}
        return {
            "names": list(self.names),
            "ids": list(range(len(self.names))) if self.multilabel else list(self.values),
            "num_classes": len(self.names),
            "background": several and self.names[0].casefold() in BACKGROUND,
            "multilabel": self.multilabel,
            **planes,
        }


def is_lossy(path: Path) -> bool:
    """Whether a file has the suffix of a lossy format, or is a JPEG under another."""
    if path.suffix.lower() in LOSSY:
        return True
    with path.open("rb") as file:
        return file.read(3) == b"\xff\xd8\xff"
