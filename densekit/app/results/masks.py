"""Masks of pictures as PNG files of stored values, and laid over their pictures.

Shape letters: H and W the sides of a picture, C its channels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import replacing, write_json
from densekit._names import foreground

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREVIEW = 2000
"""Longer side of a huge picture's overlay in pixels."""


class MaskClasses:
    """The classes of a head as its masks are stored.

    Args:
        head: `info["heads"][HEAD]`.

    Attributes:
        drawn: Mask value (multi-label: channel) of every class but the background, and its name.
        values: Mask value to the value that is stored: the data set's own where there is one.
            Multi-label, what stands for no and yes.
        order: Value of each region in a map of labels; empty where regions are stored as planes.
    """

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.drawn = foreground(head)
        self.multilabel = bool(head.get("multilabel"))
        count = max(2, len(head["names"]))
        own = list(head.get("ids") or [])
        if self.multilabel:
            own, count = list(head.get("plane_values") or [0, 1]), 2
        elif head.get("num_classes") == 1:  # whatever is not the one class is 0
            own = [0, *own[-1:]]
        whole = [value for value in own if isinstance(value, int) and 0 <= value < 1 << 16]
        usable = len(set(whole)) == len(own) == count
        self.values: list[int] = whole if usable else list(range(count))
        self.order: list[int] = list(head.get("regions_class_order") or ())

    def table(self, largest: int) -> list[int]:
        """Stored value of each mask value; plain class numbers where one is above `largest`."""
        fits = max(self.values) <= largest
        return self.values if fits else list(range(len(self.values)))

    def label_map(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(*S) labels of regions (K, *S), each painted over those before it, as nnU-Net does."""
        import numpy as np

        out = np.zeros(planes.shape[1:], np.uint8 if max(self.order) < 256 else np.uint16)
        for plane, value in zip(planes, self.order, strict=True):
            out[plane == 1] = value
        return out

    def labels(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Mask values of what `table(255)` made of them."""
        import numpy as np

        table = np.zeros(256, np.uint8)
        table[self.table(255)] = np.arange(len(self.values))
        found: NDArray[Any] = table[stored]
        return found

    def legend(self, largest: int) -> list[dict[str, Any]]:
        """Stored value, name and colour of each drawn class, for `classes.json`."""
        from densekit.visualization.colours import class_colour

        table = self.table(largest)
        return [
            {
                "value": self._stored(value, table),
                "name": name,
                "colour": list(class_colour(value)),
            }
            for value, name in self.drawn.items()
        ]

    def _stored(self, value: int, table: list[int]) -> int:
        if self.order:
            return self.order[value]
        return table[1 if self.multilabel else value]


class MaskWriter:
    """Writes `masks/NAME.png`, one file a class where classes overlap, and overlays."""

    largest = 255

    def write(self, mask: NDArray[Any], classes: MaskClasses, file: Path) -> None:
        """Writes a mask.

        Args:
            mask: (H, W) classes or multi-label (K, H, W).
            classes: Of its head.
            file: Without suffix.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        if mask.ndim == 2:
            own = {value: value for value in classes.drawn}
            _save(mask, classes.table(self.largest), own, file)
            return
        for channel, name in classes.drawn.items():
            part = file.with_name(f"{file.name}_{name.replace('/', '_')}")
            _save(mask[channel], classes.table(self.largest), {1: channel}, part)

    def draw(
        self, image: NDArray[Any], mask: NDArray[Any], classes: MaskClasses, file: Path
    ) -> None:
        """Writes the picture (H, W, C) with the classes over it and their names beneath."""
        from densekit.visualization.images import save_picture
        from densekit.visualization.masks import overlay

        save_picture(overlay(image, mask, classes.drawn), file)


def write_classes(heads: Mapping[str, list[dict[str, Any]]], output: Path) -> None:
    """Writes `classes.json`: what the values of the masks of each head are."""
    write_json(output / "classes.json", heads)


def _save(mask: NDArray[Any], table: list[int], colours: Mapping[int, int], file: Path) -> None:
    """Writes a palette PNG.

    Args:
        mask: (H, W) rows of `table`.
        table: The value that is stored for each.
        colours: Mask value to the class whose colour it gets.
        file: Without suffix.
    """
    import numpy as np
    from PIL import Image

    from densekit.visualization.colours import palette

    image = Image.fromarray(np.array(table, np.uint8)[mask])
    stored = {table[value]: label for value, label in colours.items()}
    image.putpalette(palette(stored).tobytes())
    with replacing(file.with_name(file.name + ".png")) as part:
        image.save(part)
